"""Tables for a terminal: names stay whole, and columns are left out where the terminal is too narrow."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

TEXT_WIDTH = 100
"""Columns at which titles and captions wrap, where the terminal and the table are wider."""

MIN_LAST_WIDTH = 24
"""Least columns of the terminal for the last column of a `FactTable`."""

MAX_WIDTH = 100_000
"""A width that no table reaches: used to measure how wide a table is when nothing is cut."""


@dataclass(frozen=True)
class Column:
    """A column of a `ColumnTable`.

    Columns of priority 0 are always shown. Of the others, the one with the largest number is left out first.
    """

    title: str
    priority: int = 0
    right: bool = False
    footer: str = ""
    name: str = ""

    @property
    def full_name(self) -> str:
        """The name of the column outside the table, where its title is not unique: MACs in the paper."""
        return self.name or self.title


@dataclass
class ColumnTable:
    """A table that leaves columns out, the least important first, until it fits the width of the console.

    Cells are never cut or wrapped. A line beneath the table names the columns left out, and `elsewhere`, where they
    can be read: an option such as `--json`, or a file. A name that is wider than the whole console is folded.
    """

    columns: Sequence[Column]
    title: str = ""
    caption: str = ""
    elsewhere: str = "--json"
    rows: list[tuple[tuple[str, ...], str | None]] = field(default_factory=list)

    def add_row(self, *cells: str, style: str | None = None) -> None:
        """Add a row of one cell for each column. Raises ValueError for another number of cells."""
        if len(cells) != len(self.columns):
            raise ValueError(f"a row has {len(cells)} cells, the table {len(self.columns)} columns")
        self.rows.append((cells, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = list(range(len(self.columns)))
        table, width = self._measured(shown, console, options)
        while width > options.max_width and (optional := [index for index in shown if self.columns[index].priority]):
            shown.remove(max(optional, key=lambda index: (self.columns[index].priority, index)))
            table, width = self._measured(shown, console, options)
        if width > options.max_width:
            for column in table.columns:
                column.no_wrap, column.overflow = False, "fold"
        text_options = options.update(max_width=min(options.max_width, max(width, TEXT_WIDTH)))
        if self.title:
            yield from console.render(Text(self.title, "table.title"), text_options)
        yield table
        if self.caption:
            yield from console.render(Text(self.caption, "table.caption"), text_options)
        left_out = [column.full_name for index, column in enumerate(self.columns) if index not in shown]
        if left_out:
            message = f"left out: {', '.join(left_out)}; use a wider terminal or {self.elsewhere}"
            yield from console.render(Text(message, "table.caption"), text_options)

    def _measured(self, shown: Sequence[int], console: Console, options: ConsoleOptions) -> tuple[Table, int]:
        """Return the table of the columns in `shown`, and its width when no cell is cut."""
        table = Table(show_footer=any(column.footer for column in self.columns))
        for index in shown:
            column = self.columns[index]
            justify, footer = "right" if column.right else "left", Text(column.footer)
            table.add_column(Text(column.title), footer, justify=justify, no_wrap=True, overflow="crop")  # type: ignore[arg-type]
        for cells, style in self.rows:
            table.add_row(*(Text(cells[index]) for index in shown), style=style)
        return table, console.measure(table, options=options.update(max_width=MAX_WIDTH)).maximum


@dataclass
class FactTable:
    """Rows of a label and its values, in aligned columns.

    On a narrow console the last column wraps; where less than MIN_LAST_WIDTH is left for it, a row is one wrapped line.

    Columns whose index is in `right` are aligned on the right.
    """

    right: frozenset[int] = frozenset()
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add_row(self, label: str, *values: str) -> None:
        """Add a row; an empty value leaves its place blank."""
        self.rows.append((label, *values))

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        count = max((len(row) for row in self.rows), default=0)
        rows = [row + ("",) * (count - len(row)) for row in self.rows]
        widths = [max(cell_len(row[index]) for row in rows) for index in range(count)]
        left = options.max_width - sum(widths[:-1]) - 2 * (count - 1)
        if count and left >= min(widths[-1], MIN_LAST_WIDTH):
            grid = Table.grid(padding=(0, 2))
            for index in range(count):
                justify: JustifyMethod = "right" if index in self.right else "left"
                grid.add_column(justify=justify, no_wrap=index < count - 1)
            for row in rows:
                grid.add_row(*(Text(cell) for cell in row))
            yield grid
            return
        for label, *values in rows:
            yield Text(": ".join(text for text in (label, "; ".join(filter(None, values))) if text))
