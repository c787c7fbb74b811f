"""Files that take the outputs of one program after the other."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator

import pytest

from manyhands_shared.programs.scratch_file import ScratchFile

if sys.platform != "linux":
    pytest.skip("files are used again on Linux alone", allow_module_level=True)


@pytest.fixture
def scratch() -> Iterator[ScratchFile]:
    file = ScratchFile()
    yield file
    file.close()


def spawned(scratch: ScratchFile, line: str) -> None:
    """Run a line of shell that writes there to its end."""
    scratch.open()
    pid = os.posix_spawn(
        "/bin/sh", ["sh", "-c", line], os.environ, file_actions=[scratch.action(1)]
    )
    assert os.waitpid(pid, 0)[1] == 0


def test_each_program_has_it_empty_and_from_its_beginning(scratch: ScratchFile) -> None:
    # A mark, for the system may give a new file the number of one that is gone.
    os.fchmod(scratch.open(), 0o640)
    for line, told in (("echo long", b"long\n"), ("true", b""), ("echo b", b"b\n")):
        spawned(scratch, line)
        assert scratch.take(100) == told
        assert stat.S_IMODE(os.fstat(scratch.open()).st_mode) == 0o640


def test_what_a_program_has_handed_on_is_not_used_again(scratch: ScratchFile) -> None:
    # As a server has it that a program has passed its output to.
    kept = os.open(f"/proc/self/fd/{scratch.open()}", os.O_RDWR)
    spawned(scratch, "echo a")
    assert scratch.take(100) == b"a\n"
    spawned(scratch, "true")
    os.write(kept, b"late")
    os.close(kept)
    assert scratch.take(100) == b""


def test_what_was_not_taken_is_not_the_next_ones(scratch: ScratchFile) -> None:
    spawned(scratch, "echo too much")
    with pytest.raises(OverflowError, match="9"):
        scratch.take(8)
    scratch.drop()
    spawned(scratch, "echo b")
    assert scratch.take(8) == b"b\n"


def test_what_a_program_was_to_have_is_closed_if_none_starts(scratch: ScratchFile) -> None:
    _, given, place = scratch.action(1)
    assert place == 1
    os.fstat(given)
    scratch.drop()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(given)
