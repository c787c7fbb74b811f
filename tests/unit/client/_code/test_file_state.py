"""Whether files are as they were when they were read."""

from __future__ import annotations

import os
from pathlib import Path

from harness.processes import eventually
from manyhands._code.file_state import are_unchanged, signature


def test_files_are_unchanged_as_long_as_each_is(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one", "two")]
    for path in paths:
        path.write_bytes(b"some")
    known = [(str(path), signature(str(path))) for path in paths]
    assert are_unchanged([])
    assert are_unchanged(known)
    assert not are_unchanged([*known, (str(paths[0]), None)]), "of one it is not known"
    assert not are_unchanged([*known, (str(tmp_path / "gone"), (1, 2, 3))])


def test_a_file_that_was_written_replaced_or_removed_is_changed(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"

    def known() -> list[tuple[str, tuple[int, int, int] | None]]:
        return [(str(path), signature(str(path)))]

    path.write_bytes(b"some")
    before = known()
    path.write_bytes(b"longer")
    assert not are_unchanged(before)
    before = known()

    def is_seen() -> bool:
        path.write_bytes(b"LONGER")
        return not are_unchanged(before)

    eventually(is_seen, what="the clock of the file system has gone on")
    before = known()
    other.write_bytes(b"LONGER")
    os.replace(other, path)  # noqa: PTH105 - the call that programs replace files by
    assert not are_unchanged(before)
    before = known()
    path.unlink()
    assert not are_unchanged(before)
