"""What a forked child must not wait for: threads that only its parent has."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from harness.processes import eventually
from manyhands._io import printer as printers
from manyhands._io.printer import Printer
from manyhands._submit import class_versions


class _Thing:
    pass


def _ends_in_a_fork(what: Callable[[], object]) -> None:
    """Call it in a forked child, which must come to its end."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            what()
            code = 0
        finally:
            os._exit(code)

    def ended() -> tuple[int, int] | None:
        found = os.waitpid(pid, os.WNOHANG)
        return found if found[0] else None

    try:
        _, status = eventually(ended)
    except BaseException:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise
    assert os.waitstatus_to_exitcode(status) == 0


def test_classes_are_numbered_in_a_child_forked_while_another_thread_does_so() -> None:
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with class_versions._lock:
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        _ends_in_a_fork(lambda: class_versions.version_of(_Thing))
    finally:
        over.set()
        thread.join()


def test_a_forked_child_exits_while_its_parent_is_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over = threading.Event(), threading.Event()

    def write(_stream: int, _text: str) -> None:
        begun.set()
        over.wait()

    monkeypatch.setattr("manyhands._io.output_streams.write", write)
    printer = Printer()
    printer.note("a line\n")
    begun.wait()
    try:
        _ends_in_a_fork(printers._finish_all)
    finally:
        over.set()
        printer.finish()
        printer.close()
