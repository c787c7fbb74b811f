"""A table of any length on the screen: only the lines that are seen are made.

Text comes from strangers. It is put into segments as it is, and never read as markup.
"""

from __future__ import annotations

from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from manyhands.cli._top.columns import Row, Table

#: How a line looks, by the state of its row.
_STYLES = {
    "failed": Style(color="red"),
    "suspected": Style(color="red"),
    "paused": Style(color="yellow"),
    "waiting": Style(color="yellow"),
    "draining": Style(color="yellow"),
    "running": Style(color="green"),
    "done": Style(dim=True),
    "cancelled": Style(dim=True),
}


class TableView(ScrollView, can_focus=True):
    """Shows rows below a heading that stays, with one row chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "edge(0)", "First", show=False),
        Binding("end", "edge(-1)", "Last", show=False),
    ]

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table
        self.rows: list[Row] = []
        #: What marks the column that the rows are sorted by: its title, and an arrow.
        self.sorted_by = ("", "")
        self._cursor = 0

    @property
    def chosen(self) -> Row | None:
        """The row that keys are for."""
        return self.rows[self._cursor] if self.rows else None

    def show(self, table: Table, rows: list[Row]) -> None:
        """Show these rows; the row that was chosen stays so, wherever it is now."""
        before = self.chosen
        self.rows = rows
        if table is not self.table:
            self.table, self._cursor = table, 0
            self.scroll_to(y=0, animate=False)
        elif before is not None:
            places = (place for place, row in enumerate(rows) if row["id"] == before["id"])
            self._cursor = next(places, min(self._cursor, max(0, len(rows) - 1)))
        self._fit()
        self.refresh()

    def on_resize(self, _event: Resize) -> None:
        """Take the new size."""
        self._fit()

    def _fit(self) -> None:
        self.virtual_size = Size(self.size.width, len(self.rows) + 1)

    def render_line(self, y: int) -> Strip:
        """Return the line `y` of the screen."""
        width, base = self.size.width, self.rich_style
        columns = self.table.chosen(width)
        place = y + self.scroll_offset.y - 1
        if y == 0:
            title, arrow = self.sorted_by
            cells = [
                f"{column.title}{arrow if column.title == title else ''}" for column, _ in columns
            ]
            style = base + Style(bold=True, underline=True)
        elif place < len(self.rows):
            row = self.rows[place]
            cells = [column.cell(row) for column, _ in columns]
            style = base + _STYLES.get(str(row.get("state", "")), Style.null())
            if place == self._cursor:
                style += Style(reverse=True, dim=False)
        else:
            cells, style = [self.table.empty if y == 2 and not self.rows else ""], base
            return Strip([Segment(set_cell_size(cells[0], width), style)], width)
        parts = []
        for text, (column, size) in zip(cells, columns, strict=True):
            fitted = set_cell_size(text, size)
            parts.append(fitted.rstrip().rjust(size) if column.right else fitted)
        return Strip([Segment(set_cell_size(" ".join(parts), width), style)], width)

    def action_move(self, by: int) -> None:
        """Choose another row."""
        self._choose(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Choose a row a screen further."""
        self._choose(self._cursor + by * max(1, self.size.height - 1))

    def action_edge(self, place: int) -> None:
        """Choose the first row, or the last."""
        self._choose(place % max(1, len(self.rows)))

    def on_click(self, event: Click) -> None:
        """Choose the row under the mouse."""
        if event.y:
            self._choose(event.y + self.scroll_offset.y - 1)

    def _choose(self, place: int) -> None:
        self._cursor = max(0, min(place, len(self.rows) - 1))
        top, seen = self.scroll_offset.y, self.size.height - 1
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + seen:
            self.scroll_to(y=self._cursor - seen + 1, animate=False)
        self.refresh()
