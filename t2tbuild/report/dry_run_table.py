"""The table of a dry run."""

from rich.console import Console
from rich.table import Table

from t2tbuild.report.cost_table import in_bytes
from t2tbuild.training.dry_run import DryRun


def print_dry_run(console: Console, found: DryRun) -> None:
    """What a dry run found, one thing a line."""
    rows = Table.grid(padding=(0, 2))
    images = f"{found.train_images:,} training, {found.validation_images:,} validation, {found.test_images:,} test"
    rows.add_row("images", f"{images}; {found.classes} classes")
    rows.add_row("device", f"{found.device}, {found.precision}")
    rows.add_row("first losses", f"{found.loss:.3f}")
    rows.add_row("a step", f"{found.step_seconds:.3g} s")
    rows.add_row("a checkpoint", f"{in_bytes(found.checkpoint_bytes)} in {found.save_seconds:.3g} s")
    rows.add_row("memory so far", in_bytes(found.memory))
    rows.add_row("all epochs", f"{found.hours:.3g} h by this step, evaluations not counted")
    console.print(f"{found.name}: dry run, nothing is kept")
    console.print(rows)
