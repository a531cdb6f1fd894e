"""The table of a bench."""

from rich.table import Table

from t2tbuild.bench.benchmark import Bench
from t2tbuild.spec.units import short_count


def bench_table(bench: Bench, *, title: str) -> Table:
    """One row a model, in the order they were named in; what the shares are of stands beneath."""
    setup = bench.setup
    images = "one image" if setup.batch_size == 1 else f"{setup.batch_size} images"
    rounds = min(one.speed.rounds for one in bench.measurements)
    notes = (
        f"ms for {images}: median of {rounds} interleaved rounds (p5 to p95). ratio: images/s by those of "
        f"the first. memory: the peak, weights included. share: {6 if setup.training else 2} FLOPs a MAC "
        f"of the best matrix product of the same minutes, {short_count(bench.matmul_peak)}FLOP/s."
    )
    table = Table(title=title, title_justify="left", caption=notes, caption_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("params", "MACs", "ms", "p5 to p95", "images/s", "ratio", "memory", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in bench.measurements:
        table.add_row(
            one.name,
            short_count(one.params),
            short_count(one.macs),
            milliseconds(one.speed.median),
            f"{milliseconds(one.speed.p5)} to {milliseconds(one.speed.p95)}",
            _three_digits(one.images_per_second),
            f"{bench.ratio(one):.2f}",
            f"{short_count(one.memory)}B",
            f"{one.share_of_peak:.1%}",
        )
    return table


def milliseconds(seconds: float) -> str:
    """To three digits, without the unit.

    >>> milliseconds(0.0012345), milliseconds(1.5)
    ('1.23', '1,500')
    """
    return _three_digits(seconds * 1000)


def _three_digits(value: float) -> str:
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.{max(0, 3 - len(str(int(rounded))))}f}"
