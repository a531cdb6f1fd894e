"""The table of a dry run."""

from rich.console import Console

from t2tbuild.files import short_path
from t2tbuild.report.cost_table import format_bytes
from t2tbuild.report.table import FactTable
from t2tbuild.spec.units import plural
from t2tbuild.training.dry_run import DryRun


def print_dry_run(console: Console, found: DryRun) -> None:
    """Print the results of a dry run, one per line."""
    rows = FactTable()
    test = f"{found.test_images:,} test" if found.test_images else "no test images"
    images = f"{found.train_images:,} training, {found.validation_images:,} validation, {test}"
    rows.add_row("images", f"{images}; {plural(found.classes, 'class')}")
    for note in found.notes:
        rows.add_row("data", note)
    for name in found.skipped:
        rows.add_row("unreadable", short_path(name))
    rows.add_row("device", f"{found.device}, {found.precision}")
    rows.add_row("first loss", f"{found.loss:.3f}")
    rows.add_row("step", f"{found.step_seconds:.3g} s")
    rows.add_row("checkpoint", f"{format_bytes(found.checkpoint_bytes)} in {found.save_seconds:.3g} s")
    rows.add_row("memory so far", format_bytes(found.memory))
    rows.add_row("all epochs", f"{found.hours:.3g} h estimated from this step, without evaluations")
    console.print(f"{found.name}: dry run, nothing is saved")
    console.print(rows)
