"""The coordinator's log: what it says has outlived the process, however that ends."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands_broker import write_ahead_log
from manyhands_broker.coordination.records import Record, RecordKind
from manyhands_broker.write_ahead_log import WriteAheadLog
from manyhands_shared.clock import SteppedClock, monotonic
from manyhands_shared.errors import ConfigError

OBJECT = RecordKind.OBJECT


def record(key: bytes, payload: Any) -> Record:
    return Record(OBJECT, key, payload)


def read(directory: Path) -> dict[bytes, Any]:
    """What a broker reads that is started now."""
    log = WriteAheadLog(directory, monotonic)
    try:
        return {one.key: one.payload for one in log.load()}
    finally:
        log.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "coordination.log"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[WriteAheadLog]:
    log = WriteAheadLog(tmp_path, monotonic)
    yield log
    log.close()


def test_nothing_is_made_before_the_first_record(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path / "new", monotonic)
    assert list(log.load()) == []
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_the_last_record_of_a_key_counts(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path, monotonic)
    log.write([record(b"a", [1]), record(b"b", {"x": b"y"})], 0)
    log.write([record(b"a", [2]), record(b"c", 1)], 0)
    log.write([record(b"c", None)], 0)
    log.close()
    assert read(tmp_path) == {b"a": [2], b"b": {"x": b"y"}}


def test_a_log_that_holds_nothing_goes(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path / "new", monotonic)
    log.write([record(b"a", 1)], 0)
    log.write([record(b"a", None)], 0)
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_outlives_a_killed_process(tmp_path: Path) -> None:
    script = (
        "import os, sys, signal; from pathlib import Path;"
        "from manyhands_broker.write_ahead_log import WriteAheadLog;"
        "from manyhands_broker.coordination.records import Record, RecordKind;"
        "log = WriteAheadLog(Path(sys.argv[1]), float);"
        "log.write([Record(RecordKind.OBJECT, b'k', 'v')], 0);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert read(tmp_path) == {b"k": "v"}


@pytest.mark.parametrize("damage", ["cut", "flip", "tail"])
def test_a_torn_last_record_is_dropped(tmp_path: Path, file: Path, damage: str) -> None:
    log = WriteAheadLog(tmp_path, monotonic)
    log.write([record(b"a", 1)], 0)
    whole = file.stat().st_size
    log.write([record(b"b", "x" * 50)], 0)
    log.close()
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[-3:]
    elif damage == "flip":
        data[-1] ^= 1
    else:
        data[whole:] = b"\xff\xff"
    file.write_bytes(data)
    assert read(tmp_path) == {b"a": 1}
    assert file.stat().st_size == whole


def test_a_drain_is_kept_whole_or_not_at_all(tmp_path: Path, file: Path) -> None:
    log = WriteAheadLog(tmp_path / "full", monotonic)
    log.write([record(b"a", 1)], 0)
    begin = (tmp_path / "full/coordination.log").stat().st_size
    log.write([record(b"a", 2), record(b"b", 2), record(b"c", 2)], 0)
    log.close()
    data = (tmp_path / "full/coordination.log").read_bytes()
    for length in range(begin, len(data)):
        file.write_bytes(data[:length])
        assert read(tmp_path) == {b"a": 1}, f"the first {length} bytes of {len(data)}"
    file.write_bytes(data)
    assert read(tmp_path) == {b"a": 2, b"b": 2, b"c": 2}


def test_any_prefix_of_the_file_is_a_state_that_there_was(tmp_path: Path, file: Path) -> None:
    log = WriteAheadLog(tmp_path / "full", monotonic)
    states: list[dict[bytes, Any]] = [{}]
    rng = random.Random(3)
    for number in range(30):
        key = bytes([97 + rng.randrange(5)])
        value = None if rng.random() < 0.3 else number
        log.write([record(key, value)], 0)
        state = dict(states[-1])
        state.pop(key, None)
        if value is not None:
            state[key] = value
        states.append(state)
    data = (tmp_path / "full" / "coordination.log").read_bytes()
    log.close()
    seen = 0
    for size in range(len(data)):
        file.write_bytes(data[:size])
        found = read(tmp_path)
        assert found in states[seen:]
        seen = seen + states[seen:].index(found)


def test_a_log_has_one_broker(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path, monotonic)
    log.write([record(b"a", 1)], 0)
    with pytest.raises(ConfigError, match="another broker's"):
        WriteAheadLog(tmp_path, monotonic)
    log.close()


def test_a_file_of_something_else_is_left_alone(tmp_path: Path, file: Path) -> None:
    file.write_bytes(b"precious, and longer than a magic")
    with pytest.raises(ConfigError, match="move it away"):
        WriteAheadLog(tmp_path, monotonic)
    assert file.read_bytes().startswith(b"precious")


def test_a_log_of_dead_records_is_rewritten_while_it_is_written(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_ahead_log, "REWRITE_BYTES", 20_000)
    # Each slice copies a few records.
    clock = SteppedClock()
    log = WriteAheadLog(tmp_path, lambda: _tick(clock))
    rng, expected, rewritten = random.Random(5), dict[bytes, Any](), 0
    inode = None
    for number in range(3_000):
        key = rng.randrange(40).to_bytes(2, "big")
        value = None if rng.random() < 0.2 else [number, "x" * rng.randrange(100)]
        expected.pop(key, None)
        if value is not None:
            expected[key] = value
        log.write([record(key, value)], 0)
        if log.working:
            log.work()
        if file.stat().st_ino != inode:
            rewritten, inode = rewritten + 1, file.stat().st_ino
    while log.working:
        log.work()
    assert rewritten > 3
    assert file.stat().st_size < 100_000
    assert {one.key: one.payload for one in log.load()} == expected
    # Killed, not closed: the next one reads the same.
    os.close(log._file)
    assert read(tmp_path) == expected


def _tick(clock: SteppedClock) -> float:
    clock.advance(0.0015)
    return clock()


def test_a_full_disk_stops_nothing_and_what_was_missed_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = WriteAheadLog(tmp_path, monotonic)
    log.write([record(b"a", 1), record(b"gone", 1)], 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
        log.write([record(b"b", "x" * 1_000)], 0)
        log.write([record(b"c", 3), record(b"gone", None)], 0.1)
        log.write([record(b"a", 2)], 5.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [one.levelname for one in caplog.records] == ["ERROR"]
    assert "make room" in caplog.text
    log.write([record(b"d", 4)], 5.5)
    log.write([record(b"e", 5)], 6.1)
    assert "can be written again" in caplog.text
    log.close()
    assert read(tmp_path) == {b"a": 2, b"b": "x" * 1_000, b"c": 3, b"d": 4, b"e": 5}


def test_a_log_that_another_broker_has_made_meanwhile_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, other = WriteAheadLog(tmp_path, monotonic), WriteAheadLog(tmp_path, monotonic)
    other.write([record(b"a", 1)], 0)
    ours.write([record(b"b", 2)], 0)
    assert "another broker's" in caplog.text
    other.write([record(b"a", None)], 0)
    other.close()
    ours.write([record(b"c", 3)], 2)
    ours.close()
    assert read(tmp_path) == {b"b": 2, b"c": 3}
