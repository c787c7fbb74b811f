"""`manyhands top` on a terminal.

It looks at one view of the broker at a time, each second or two. These are tables that the dashboard
has as well, and they are bounded. One question is under way at a time. It stays so as long as the broker
is away, and the client asks it again over the next link.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Static

from manyhands.cli._top import summary
from manyhands.cli._top.columns import ENDED, ID_CHARS, JOBS, NODES, SLOTS, TABLES, Row, Table
from manyhands.cli._top.confirm import Confirm
from manyhands.cli._top.rows import Slots, chosen, rows_of
from manyhands.cli._top.table_view import TableView
from manyhands_shared.errors import ManyhandsError, NotAuthorised, Refused
from manyhands_shared.text import amount, printable

if TYPE_CHECKING:
    from manyhands import Client

#: How long an answer may take before the screen says so.
_PATIENCE = 2.0
#: Characters of a name in a question.
_NAME_CHARS = 60


class Top(App[None]):
    """Jobs, nodes and slots of a broker."""

    TITLE = "manyhands top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #figures, #status { height: 1; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    TableView { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("1", "table(0)", "Jobs"),
        Binding("2", "table(1)", "Nodes"),
        Binding("3", "table(2)", "Slots"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "unfilter", "All", show=False),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("c", "cancel", "Cancel"),
        Binding("p", "pause", "Pause"),
        Binding("d", "drain", "Drain"),
    ]

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._table: Table = JOBS
        self._rows: list[Row] = []
        self._all_jobs = 0
        self._slots = Slots()
        self._words = ""
        self._column: int | None = None
        self._reverse = False
        self._figures = "asking the broker"
        self._away = ""
        self._look = asyncio.Event()
        #: Why it has ended, if not by a key.
        self.error: BaseException | None = None

    def compose(self) -> ComposeResult:
        """Return what stands on the screen."""
        yield Static(id="figures")
        yield Static(id="status")
        yield Input(
            id="filter", placeholder="part of a name; Enter shows what has it", compact=True
        )
        yield TableView(self._table)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one(TableView).focus()
        self._tell()
        self.run_worker(self._follow())

    # What the broker says -----------------------------------------------------------------------

    async def _follow(self) -> None:
        """Look at the table that is shown, again and again."""
        try:
            while True:
                self._look.clear()
                table = self._table
                health = await self._ask("health")
                arguments = {"seq": self._slots.seq} if table is SLOTS else {}
                answer = await self._ask("view", view=table.view, **arguments)
                self._figures = summary.figures(health)
                if table is JOBS:
                    self._figures += summary.rate(answer)
                    self._all_jobs = answer["all_jobs"]
                rows = rows_of(table, answer, self._slots)
                if table is self._table:
                    self._rows = rows
                    self._show()
                try:
                    await asyncio.wait_for(self._look.wait(), table.seconds)
                except TimeoutError:
                    continue
        except ManyhandsError as error:
            self.error = error
            self.exit()

    async def _ask(self, what: str, **arguments: Any) -> Any:
        """Put a question; say so when the answer takes long.

        Raises:
            ManyhandsError: there is no answer, and why.
        """
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        def wake(_: object) -> None:
            # The answer may come when the screen is gone.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(came.set)

        asked = self._client._io.ask(what, arguments)
        asked.add_done_callback(wake)
        try:
            await asyncio.wait_for(came.wait(), _PATIENCE)
        except TimeoutError:
            self._away = f"no answer from the broker at {self._client.address}; it is asked again"
            self._tell()
            await came.wait()
        if self._away:
            self._away = ""
            self._tell()
        return asked.result()

    def _show(self) -> None:
        view = self.query_one(TableView)
        column = None if self._column is None else self._columns()[self._column]
        rows = chosen(self._rows, self._words, column, reverse=self._reverse)
        view.sorted_by = (
            ("", "") if column is None else (column.title, "▼" if self._reverse else "▲")
        )
        view.show(self._table, rows)
        self._tell()

    def _tell(self) -> None:
        """Write the two lines above the table."""
        self.query_one("#figures", Static).update(
            Text(self._away, style="bold red") if self._away else Text(self._figures, style="bold")
        )
        shown = len(self.query_one(TableView).rows)
        words = f"{self._table.name}: {shown:,}"
        if self._table is JOBS and self._all_jobs > len(self._rows):
            words += f" of the latest {len(self._rows):,}, of {self._all_jobs:,}"
        elif shown < len(self._rows):
            words += f" of {len(self._rows):,}"
        if self._words:
            words += f'  with "{printable(self._words)}" (Esc shows all)'
        self.query_one("#status", Static).update(Text(words, no_wrap=True, overflow="ellipsis"))

    # Keys ---------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Say whether a key is of use now; the footer shows those that are."""
        if action in ("cancel", "pause"):
            return self._table is JOBS
        if action == "drain":
            return self._table is NODES
        return action != "table" or parameters[0] != TABLES.index(self._table)

    def action_table(self, place: int) -> None:
        """Show another table."""
        self._table, self._rows, self._column, self._reverse = TABLES[place], [], None, False
        if self._table is SLOTS:
            self._rows = self._slots.rows()
        self._show()
        self.refresh_bindings()
        self._look.set()

    def action_sort(self) -> None:
        """Sort by the next column, behind the last by none."""
        following = 0 if self._column is None else self._column + 1
        self._column = following if following < len(self._columns()) else None
        self._show()

    def action_reverse(self) -> None:
        """Turn the order."""
        self._reverse = not self._reverse
        self._show()

    def _columns(self) -> list[Any]:
        width = self.query_one(TableView).size.width
        return [column for column, _ in self._table.chosen(width) if column.title]

    def action_filter(self) -> None:
        """Let words be typed that a row must have."""
        line = self.query_one("#filter", Input)
        line.display = True
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self._words = event.value.strip()
        self._show()

    def on_input_submitted(self) -> None:
        """Back to the rows that are left."""
        self.query_one("#filter", Input).display = False
        self.query_one(TableView).focus()

    def action_unfilter(self) -> None:
        """Show all rows."""
        self.query_one("#filter", Input).value = ""
        self.on_input_submitted()

    # Orders -------------------------------------------------------------------------------------

    def action_cancel(self) -> None:
        """Cancel the chosen job, if it is confirmed."""
        job = self._living_job()
        if job is not None:
            left = job["tasks"] - job["done"] - job["failed"] - job["cancelled"]
            end = f"What waits is dropped, what runs is killed: {amount(left, 'task')}."
            self._confirm(f"Cancel {_called(job)}?\n{end}", "cancel", id=job["id"])

    def action_pause(self) -> None:
        """Pause the chosen job, or have it go on."""
        job = self._living_job()
        if job is not None:
            order = "resume" if job["state"] == "paused" else "pause"
            self.run_worker(self._order(order, id=job["id"]))

    def action_drain(self) -> None:
        """Drain the chosen node, if it is confirmed."""
        node = self.query_one(TableView).chosen
        if node is not None:
            name = printable(node["id"])
            question = f"Drain {name}?\nIt finishes what it runs, gives back the rest, and leaves."
            self._confirm(question, "drain", node=node["id"])

    def _living_job(self) -> Row | None:
        job = self.query_one(TableView).chosen
        if job is not None and job["state"] in ENDED:
            self.notify(f"{_called(job)} has ended: {job['state']}", markup=False)
            return None
        return job

    def _confirm(self, question: str, order: str, **arguments: Any) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(self._order(order, **arguments))

        self.push_screen(Confirm(question), answered)

    async def _order(self, order: str, **arguments: Any) -> None:
        """Give an order, and look at once what has become of it."""
        try:
            await self._ask(order, **arguments)
        except (NotAuthorised, Refused) as error:
            self.notify(printable(str(error)), severity="error", markup=False, timeout=10)
        self._look.set()


def _called(job: Row) -> str:
    name = printable(str(job["name"]))[:_NAME_CHARS]
    return f"job {printable(job['id'][:ID_CHARS])} {name}".rstrip()
