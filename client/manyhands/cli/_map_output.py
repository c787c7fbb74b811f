"""Where `map` writes, and what of an interrupted run is there already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

import click

from manyhands.cli import _lines, _output, _user_files
from manyhands.cli._fingerprint import Fingerprint
from manyhands.cli._lines import Done, Item, Reading
from manyhands.cli._reader import LineReader
from manyhands_shared.text import amount

_WORDS = "go on with it by --resume, replace it by --overwrite"


class Output:
    """The output of one run of `map`.

    Args:
        sink: a file that is opened at the first write.
        old: "resume", "resume-changed" or "overwrite", if the file may hold something.
        what: the function and its code, and how lines are read.
    """

    def __init__(self, sink: IO[str], old: str | None, what: dict[str, Any]) -> None:
        self._sink = sink
        self._may_hold = old is not None
        self._done: Done | None = None
        # The empty name is refused by `check`.
        self._path = None if sink.name in ("-", "") else Path(sink.name)
        self._fingerprint = None if self._path is None else Fingerprint(self._path, what)
        self._count = 0
        self._resumes = old in ("resume", "resume-changed")
        self._code_may_differ = old == "resume-changed"
        if self._resumes and self._path is None:
            raise click.UsageError(f"--{old} needs --output FILE", click.get_current_context())

    def check(self, source: str) -> None:
        """See whether it can be written, and what it holds.

        Raises:
            ConfigError: it cannot, or must not, or is of another run.
        """
        _lines.check_output(self._sink, source, may_hold=self._may_hold, words=_WORDS)
        if self._fingerprint is not None:
            self._fingerprint.check(source)
        if self._resumes and self._path is not None and self._fingerprint is not None:
            _user_files.check_has_end(self._path)
            self._done = _lines.read_output(self._path)
            self._fingerprint.load(code_may_differ=self._code_may_differ)

    def is_whole(self, source: str, reading: Reading) -> bool:
        """Whether nothing is left to do; of an input that can be read twice.

        Raises:
            ConfigError: the output is of another input.
        """
        if self._done is None or self._path is None:
            return False
        with LineReader(source) as reader:
            if not reader.is_file:
                _output.note(f"done already: {amount(len(self._done), 'item')}")
                return False
            count = 0
            for batch in _lines.read_items(reader, reading):
                for item in batch:
                    self._take(item)
                    count += 1
        if self._fingerprint is not None:
            self._fingerprint.begin()
        self._done.check(count, self._path)
        _output.note(f"done already: {len(self._done):,} of {amount(count, 'item')}")
        if len(self._done) < count:
            return False
        _lines.appended(self._path, self._done.size).close()  # without a line that was torn off
        return True

    def left(self, items: Iterator[Item]) -> Iterator[Item]:
        """The items that are to run.

        Raises:
            ConfigError: the output is of another input.
        """
        count = 0
        for item in items:
            count += 1
            self._take(item)
            if self._done is None or item.index not in self._done:
                yield item
        if self._done is not None and self._path is not None:
            self._done.check(count, self._path)

    def __enter__(self) -> Self:
        if self._done is not None and self._path is not None:
            self._sink = _lines.appended(self._path, self._done.size)
        else:
            self._sink.write("")
        if self._fingerprint is not None:
            self._fingerprint.open()
        return self

    def __exit__(self, *_: object) -> None:
        if self._done is not None:
            self._sink.close()
        if self._fingerprint is not None:
            self._fingerprint.close()

    def write(self, entry: dict[str, Any]) -> None:
        """Write one line, at once."""
        _lines.write_line(self._sink, entry)

    def _take(self, item: Item) -> None:
        if self._fingerprint is not None:
            self._fingerprint.take(item.line)
