"""Printed lines on this process's own streams: before the results, unless a stream takes nothing."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.threads import no_thread_left
from manyhands._io import printer as module
from manyhands._io.printer import CALM_SECONDS, Printer
from manyhands_shared.protocol.messages import PrintedGroup

OUT, ERROR = 1, 2


def plain(_job: str) -> tuple[bool, bool]:
    return False, False


def line(text: str = "line\n", stream: int = OUT, *, index: int = 0, lost: int = 0) -> PrintedGroup:
    return PrintedGroup("job", 1, index, stream, lost, text)


@pytest.fixture
def printer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Printer]:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 60.0)
    made = Printer()
    yield made
    made.close()
    made.finish()
    if made._thread is not None:
        made._thread.join(100)


class Blocked(io.StringIO):
    """A stream that takes nothing until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    def write(self, text: str, /) -> int:
        assert self.opened.wait(100)
        return super().write(text)


def test_lines_are_there_when_it_returns(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    printer.show("node", [line("a\n"), line("b\n", ERROR), line("c\n")], 0.0, plain)
    assert capsys.readouterr() == ("a\nc\n", "b\n")


def test_with_a_prefix(printer: Printer, capsys: pytest.CaptureFixture[str]) -> None:
    def rules(_job: str) -> tuple[bool, bool]:
        return True, False

    printer.show("no\x1bde", [line("a\n\nb\n", index=7)], 0.0, rules)
    assert capsys.readouterr().out == (
        "[no\ufffdde task 7] a\n[no\ufffdde task 7] \n[no\ufffdde task 7] b\n"
    )


def test_a_terminal_obeys_own_tasks_but_not_those_of_safe_jobs(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    printer.show("node", [line("\x1b[31mred\x1b[0m\n")], 0.0, plain)
    printer.show("node", [line("\x1b]52;c;aGk=\x07\t.\n")], 0.0, lambda _: (False, True))
    assert capsys.readouterr().out == "\x1b[31mred\x1b[0m\n\ufffd]52;c;aGk=\ufffd\t.\n"


def test_what_an_encoding_has_no_words_for_is_escaped(
    printer: Printer, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    printer.show("node", [line("na\xefve\n")], 0.0, plain)
    assert raw.getvalue() == b"na\\xefve\n"


@pytest.mark.parametrize("broken", [None, "closed", "raises"])
def test_a_stream_that_cannot_be_written_to_loses_it(
    printer: Printer, monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    class Raises(io.StringIO):
        def write(self, text: str, /) -> int:
            raise RuntimeError(text)  # as objects of programs may

    closed = io.StringIO()
    closed.close()
    streams = {None: None, "closed": closed, "raises": Raises()}
    monkeypatch.setattr(sys, "stdout", streams[broken])
    printer.show("node", [line()], 0.0, plain)
    monkeypatch.setattr(sys, "stdout", again := io.StringIO())
    printer.show("node", [line()], 0.0, plain)
    assert again.getvalue() == "line\n"


def test_results_do_not_wait_for_ever_and_what_does_not_fit_is_told(
    printer: Printer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(module, "WAITING_CHARS", 1_000)
    monkeypatch.setattr(sys, "stdout", blocked := Blocked())
    for _ in range(100):
        printer.show("node", [line("x" * 99 + "\n")], 5.0, plain)
    assert printer._nbytes <= 1_000
    due = printer.deadline
    assert due == 5.0 + CALM_SECONDS
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 60.0)
    blocked.opened.set()
    printer.finish()
    shown = blocked.getvalue().count("\n")
    printer.tick(5.0)
    assert capsys.readouterr().err == "", "more may be lost"
    printer.tick(6.0)
    assert capsys.readouterr().err == (
        f"manyhands: left out here {100 - shown} lines that tasks printed: output came faster than "
        "it can be shown\n"
    )
    assert printer.deadline is None
    # It waits again.
    printer.show("node", [line("end\n")], 7.0, plain)
    assert blocked.getvalue().endswith("end\n")


def test_what_others_left_out_is_told_at_the_end_at_the_latest(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    printer.show("node", [line("", lost=1), line("a\n")], 0.0, plain)
    assert capsys.readouterr() == ("a\n", "")
    printer.close()
    printer.finish()
    assert capsys.readouterr().err.startswith(
        "manyhands: left out here 1 line that tasks printed: "
    )


def test_a_pipe_that_is_not_read_holds_nothing_up_and_gets_all_later(
    printer: Printer, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = os.pipe()
    text = "".join(f"{number:>99}\n" for number in range(3_000))
    with os.fdopen(near, encoding="utf-8") as reader, os.fdopen(far, "w") as stream:
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)
        monkeypatch.setattr(sys, "stdout", stream)
        printer.show("node", [line(text)], 0.0, plain)
        printer.show("node", [line("end\n")], 0.0, plain)
        found = reader.read(len(text) + 4)
        printer.finish()
        monkeypatch.undo()
    assert found == text + "end\n"


def test_a_file_or_a_terminal_is_written_to_without_another_thread(
    printer: Printer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    near, far = os.openpty()
    with (
        os.fdopen(near, "rb", buffering=0) as screen,
        os.fdopen(far, "w", encoding="utf-8") as terminal,
        (tmp_path / "file").open("w", encoding="utf-8") as file,
    ):
        for stream in (terminal, file):
            monkeypatch.setattr(sys, "stdout", stream)
            printer.show("node", [line("a line\n")], 0.0, plain)
        assert screen.read(100) == b"a line\r\n"
    assert (tmp_path / "file").read_text() == "a line\n"
    assert printer._thread is None


def test_without_a_thread_what_a_stream_does_not_take_is_left_out_and_told(
    printer: Printer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Blocked()
    monkeypatch.setattr(sys, "stdout", stream)
    with no_thread_left():
        printer.show("node", [line("one\ntwo\n")], 5.0, plain)
    stream.opened.set()
    assert stream.getvalue() == ""
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    assert printer.deadline is not None
    printer.tick(printer.deadline)
    printer.finish()
    assert "left out here 2 lines that tasks printed: " in errors.getvalue()
    printer.show("node", [line("three\n")], 9.0, plain)
    printer.finish()
    assert stream.getvalue() == "three\n"
