"""The table of released weights."""

from collections.abc import Sequence

from t2tbuild.report.table import Column, ColumnTable
from t2tbuild.weights.cache import cache_folder
from t2tbuild.weights.released import Released

COLUMNS = (
    Column("name"),
    Column("top-1", right=True),
    Column("data", 1),
    Column("size", 2, right=True),
    Column("cached"),
    Column("licence", 3),
    Column("note", 4),
)


def released_table(rows: Sequence[Released]) -> ColumnTable:
    """Return a table of released weights, and beneath it their holders and where they are cached."""
    holders = ", ".join(
        f"{licence} ({holder})" for holder, licence in {one.holder: one.licence for one in rows}.items()
    )
    caption = (
        f"The weights are under licences of their own: {holders}. t2tbuild's is Apache-2.0. "
        f"Cached in {cache_folder() / 'released'}. - is not known."
    )
    table = ColumnTable(COLUMNS, title="released weights", caption=caption)
    for one in rows:
        table.add_row(
            one.name, f"{one.top1:g}%", one.data, _size(one), "yes" if one.is_cached else "no", one.licence, one.note
        )
    return table


def _size(one: Released) -> str:
    size = one.path.stat().st_size if one.is_cached else one.bytes
    return "-" if size is None else f"{size / 1e6:.1f} MB"
