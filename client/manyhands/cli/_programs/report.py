"""What is written of programs that have ended: their outputs whole, and the log."""

from __future__ import annotations

import sys
from collections import deque
from typing import IO, Any, TextIO

from manyhands.cli import _lines
from manyhands.cli._programs import joblog
from manyhands.cli._programs.ending import Ending, told
from manyhands.cli._programs.sources import Item
from manyhands_shared.programs.program import Program
from manyhands_shared.programs.template import Values
from manyhands_shared.text import LAYOUT, printable


class Report:
    """Writes the outputs of each program whole, as they end or in the order of their numbers.

    Args:
        program: what they run.
        log: where a line for each goes, if anywhere.
        keep_order: whether an output waits for those before it.
        json: whether to write a line of JSON for each, with its outputs.
    """

    def __init__(
        self, program: Program, log: IO[str] | None, *, keep_order: bool, json: bool
    ) -> None:
        self._program = program
        self._log = log
        self._keep_order = keep_order
        self._json = json
        self._early: dict[int, tuple[Item, Ending]] = {}
        #: Numbers of the tasks that are out, in order.
        self._order: deque[int] = deque()
        self.failed = 0
        self.ended = 0
        #: The first that failed, in words.
        self.first_failure = ""

    def expect(self, number: int) -> None:
        """Note that this task is out; from the thread that submits, in order."""
        if self._keep_order:
            self._order.append(number)

    def take(self, item: Item, ending: Ending) -> int:
        """One has ended; returns how many are done with."""
        if not self._keep_order:
            self._write(item, ending)
            return 1
        self._early[item.number] = item, ending
        done = 0
        while self._early and self._order[0] in self._early:
            self._write(*self._early.pop(self._order.popleft()))
            done += 1
        return done

    def _write(self, item: Item, ending: Ending) -> None:
        if ending.cancelled:
            return
        if self._json:
            _lines.write_line(sys.stdout, _entry(item, ending))
        else:
            _pass_on(ending.stdout, sys.stdout)
            _pass_on(ending.stderr, sys.stderr)
        self.ended += 1
        if ending.failure:
            self.failed += 1
            self.first_failure = self.first_failure or f"task {item.task}: {ending.failure}"
        if self._log is not None:
            # Behind the output: a run that is cut off here repeats it rather than loses it.
            values = Values(item.number, item.task, item.inputs, ending.slot)
            self._log.write(joblog.line(item.number, ending, self._program.command(values)))
            self._log.flush()


def _entry(item: Item, ending: Ending) -> dict[str, Any]:
    """How a program ended, in plain values."""
    error = {"error": ending.failure} if ending.failure else {}
    return {
        "seq": item.number,
        "task": item.task,
        "inputs": item.inputs,
        **told(ending),
        **error,
    }


def _pass_on(data: bytes, stream: TextIO) -> None:
    """Write an output as it is into a file or pipe; on a terminal nothing of it is a command."""
    if not data:
        return
    if stream.isatty():
        text = data.decode(stream.encoding or "utf-8", "backslashreplace")
        stream.write(printable(text, keep=LAYOUT))
    else:
        stream.flush()
        stream.buffer.write(data)
    stream.flush()
