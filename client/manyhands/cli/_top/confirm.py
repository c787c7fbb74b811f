"""A question that a key answers, before something is done that cannot be undone."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static


class Confirm(ModalScreen[bool]):
    """Asks; the result is whether the answer was yes."""

    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm > Static { width: 64; max-width: 90%; height: auto; padding: 1 2; border: round $warning; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self.question = question

    def compose(self) -> ComposeResult:
        """Return what stands in it."""
        yield Static(Text(f"{self.question}\n\ny  yes      n  no"))

    def action_answer(self, answer: bool) -> None:
        """Go with an answer."""
        self.dismiss(answer)
