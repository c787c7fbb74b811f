"""The data files of a job: when they are read again, and when they are another bundle."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.processes import eventually
from manyhands._code import surroundings
from manyhands._code.file_state import signature
from manyhands_shared.errors import SubmitError


def test_a_file_with_a_time_in_the_future_is_not_read_again_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"some")
    future = time.time() + 3_600
    os.utime(file, (future, future))
    state = surroundings._state
    eventually(lambda: state(str(file)) == state(str(file)), what="it is as it was")


def test_a_file_that_is_changed_and_has_its_old_time_is_another(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"some")
    before, found = signature(str(file)), file.stat()

    def write() -> bool:
        file.write_bytes(b"else")
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
        return signature(str(file)) != before

    eventually(write, what="the system's clock has gone on")


def test_a_file_that_is_written_again_as_it_was_is_the_same_bundle(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"some")
    wanted = surroundings.wanted([file], None, None)
    assert wanted is not None
    code = surroundings.SurroundedCode(wanted)
    first = code.current()
    for content, same in ((b"some", True), (b"else", False)):
        file.write_bytes(content)
        code._until = 0.0  # the pause between two looks is over
        assert (code.current() is first) is same


def test_a_pipe_among_the_files_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    wanted = surroundings.wanted([tmp_path], None, None)
    assert wanted is not None
    with pytest.raises(SubmitError, match="pipe of the tasks is no file, but a pipe or a device"):
        surroundings.SurroundedCode(wanted).current()
