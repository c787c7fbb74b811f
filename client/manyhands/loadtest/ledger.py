"""The books of one client: what was asked, what was answered, and what is wrong with that."""

from __future__ import annotations

from typing import Any

_EXAMPLES = 3


class Ledger:
    """Every task is asked once, and must be answered once, rightly. Tasks are known by tokens."""

    def __init__(self) -> None:
        self.asked = self.right = self.wrong = self.twice = self.failed = self.missing = 0
        #: Some lines about what went wrong.
        self.examples: list[str] = []
        self._waiting: set[int] = set()

    @property
    def waiting(self) -> int:
        """Tasks that are not answered yet."""
        return len(self._waiting)

    def ask(self, token: int) -> None:
        """A task is handed in."""
        self.asked += 1
        self._waiting.add(token)

    def confirm(self, token: int) -> None:
        """It was answered rightly."""
        if self._take(token):
            self.right += 1

    def refute(self, token: int, shown: str) -> None:
        """It was answered wrongly; `shown` is what that looks like."""
        if self._take(token):
            self.wrong += 1
            self._note(f"task {token} was answered wrongly: {shown}")

    def fail(self, token: int, reason: str) -> None:
        """It ended without an answer."""
        if self._take(token):
            self.failed += 1
            self._note(f"task {token} failed: {reason}")

    def give_up(self) -> None:
        """Nothing more is waited for."""
        self.missing += len(self._waiting)
        for token in sorted(self._waiting)[:_EXAMPLES]:
            self._note(f"task {token} was never answered")
        self._waiting.clear()

    def to_map(self) -> dict[str, Any]:
        """The figures, for `total`."""
        figures = {name: getattr(self, name) for name in FIGURES}
        return {**figures, "examples": self.examples}

    def _take(self, token: int) -> bool:
        if token in self._waiting:
            self._waiting.discard(token)
            return True
        self.twice += 1
        self._note(f"task {token} was answered twice, or never asked")
        return False

    def _note(self, text: str) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(text)


FIGURES = ("asked", "right", "wrong", "twice", "failed", "missing")


def total(books: list[dict[str, Any]]) -> dict[str, Any]:
    """The books of several clients as one."""
    figures: dict[str, Any] = {name: sum(book[name] for book in books) for name in FIGURES}
    examples = [text for book in books for text in book["examples"]]
    return {**figures, "examples": examples[:_EXAMPLES]}


def problem(book: dict[str, Any]) -> str:
    """What is wrong with the answers, in a line; empty if nothing is."""
    counts = [
        f"{book[name]:,} {said}"
        for name, said in (
            ("wrong", "wrong"),
            ("twice", "double"),
            ("failed", "failed"),
            ("missing", "missing"),
        )
        if book[name]
    ]
    if not counts:
        return ""
    return f"of {book['asked']:,} answers {', '.join(counts)}; first: {'; '.join(book['examples'][:1])}"
