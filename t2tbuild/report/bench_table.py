"""The table of `t2tbuild bench`."""

from t2tbuild.bench.benchmark import BenchResult
from t2tbuild.report.table import Column, ColumnTable
from t2tbuild.spec.units import milliseconds, short_count, three_digits

COLUMNS = (
    Column("model"),
    Column("params", 4, right=True),
    Column("MACs", 3, right=True),
    Column("ms", 1, right=True),
    Column("p5 to p95", 6, right=True),
    Column("images/s", 2, right=True),
    Column("ratio", 5, right=True),
    Column("memory", 7, right=True),
    Column("share", 8, right=True),
)


def bench_table(bench: BenchResult, *, title: str) -> ColumnTable:
    """Return the table of a benchmark: a row for each model in the order given, and a caption on the columns."""
    config = bench.config
    images = "one image" if config.batch_size == 1 else f"{config.batch_size} images"
    rounds = min(one.speed.rounds for one in bench.measurements)
    caption = (
        f"ms: time for {images}, median of {rounds} interleaved rounds (p5 to p95). ratio: images/s relative to the "
        f"first model. memory: peak, weights included. share: {6 if config.training else 2} FLOPs per MAC, as a share "
        f"of the fastest matrix product measured in the same run, {short_count(bench.peak_flops)}FLOP/s."
    )
    table = ColumnTable(COLUMNS, title=title, caption=caption)
    for one in bench.measurements:
        table.add_row(
            one.name,
            short_count(one.params),
            short_count(one.macs),
            milliseconds(one.speed.median),
            f"{milliseconds(one.speed.p5)} to {milliseconds(one.speed.p95)}",
            three_digits(one.images_per_second),
            f"{bench.ratio(one):.2f}",
            f"{short_count(one.memory)}B",
            f"{one.share_of_peak:.1%}",
        )
    return table
