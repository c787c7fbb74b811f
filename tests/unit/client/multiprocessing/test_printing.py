"""What processes on other hosts print."""

from __future__ import annotations

import pytest

from manyhands.multiprocessing._processes.printing import Printer
from manyhands_shared.protocol.messages.coordination import NOTE_AT, OutputTaken, ProcessOutput

ONE, TWO, PROGRAM = b"1" * 16, b"2" * 16, b"p" * 16


def output(member: bytes, at: int, data: bytes) -> ProcessOutput:
    return ProcessOutput(member, PROGRAM, 1, at, [data])


def test_lines_are_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer()
    assert printer.receive(output(ONE, 0, b"one\ntw")) == OutputTaken(ONE, 1, 6)
    assert printer.receive(output(TWO, 0, b"other\n")) == OutputTaken(TWO, 1, 6)
    assert capsys.readouterr().out == "one\nother\n"
    assert printer.receive(output(ONE, 6, b"o\nthree")) == OutputTaken(ONE, 1, 13)
    assert capsys.readouterr().out == "two\n"
    printer.finish(ONE)
    assert capsys.readouterr().out == "three"
    assert printer.deadline() is None


def test_a_line_without_an_end_waits_a_moment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [10.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    printer = Printer()
    printer.receive(output(ONE, 0, b"password: "))
    assert printer.deadline() == pytest.approx(10.1)
    printer.tick()
    assert not capsys.readouterr().out
    now[0] = 10.2
    printer.tick()
    assert capsys.readouterr().out == "password: "
    assert printer.deadline() is None


def test_what_comes_again_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer()
    printer.receive(output(ONE, 0, b"one\n"))
    assert printer.receive(output(ONE, 0, b"one\n")) == OutputTaken(ONE, 1, 4)
    assert printer.receive(output(ONE, 2, b"e\ntwo\n")) == OutputTaken(ONE, 1, 8)
    printer.finish(ONE)
    assert printer.receive(output(ONE, 4, b"two\n")) == OutputTaken(ONE, 1, 8)
    assert capsys.readouterr().out == "one\ntwo\n"


def test_a_note_has_no_receipt(capsys: pytest.CaptureFixture[str]) -> None:
    assert Printer().receive(output(ONE, NOTE_AT, b"a note\n")) is None
    assert capsys.readouterr().out == "a note\n"
