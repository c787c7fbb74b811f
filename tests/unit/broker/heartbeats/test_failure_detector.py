"""Heartbeats, from a datagram to suspicion."""

from __future__ import annotations

import math
import socket
import statistics
import time
from dataclasses import replace

import pytest

from harness.processes import eventually
from manyhands_broker.core import Calmed, Suspected
from manyhands_broker.heartbeats import table as lastseen
from manyhands_broker.heartbeats.failure_detector import Liveness, phi
from manyhands_broker.heartbeats.receiver import HeartbeatMonitor, bind_udp
from manyhands_shared.clock import SteppedClock
from manyhands_shared.protocol.heartbeat import Beat, encode

BOOT = bytes(range(16))
KEY = bytes(range(32))
BEAT = Beat(3, BOOT, 1, 10, 2, 1.5, 1000, 5000, 0.5)


def table_with_node(now: float = 0.0) -> object:
    table = lastseen.new_table(8)
    lastseen.expect(table, 3, BOOT, KEY, 1.0, now)
    return table


@pytest.mark.parametrize("deviations", [0.5, 1.0, 2.0, 3.0])
def test_phi_is_the_normal_tail(deviations: float) -> None:
    tail = 1 - statistics.NormalDist().cdf(deviations)
    assert phi(10 + 3 * deviations, 10, 9) == pytest.approx(-math.log10(tail), rel=0.08)


def test_phi_of_an_early_beat_is_nothing_and_of_an_endless_wait_is_finite() -> None:
    assert phi(0.2, 1.0, 0.01) == 0.0
    assert 100 < phi(1e6, 1.0, 0.01) < math.inf


def test_a_signed_beat_is_entered() -> None:
    table = table_with_node()
    assert lastseen.take(table, encode(BEAT, KEY), 1.0) == BEAT
    figures = lastseen.figures_of(table, lambda: 3.0)(3)
    assert figures == {
        "beats": 1,
        "last_beat": 2.0,
        "busy": 2,
        "cpu": 1.5,
        "rss": 1000,
        "available": 5000,
        "load": 0.5,
    }


@pytest.mark.parametrize(
    ("beat", "key"),
    [
        (BEAT, bytes(32)),
        (replace(BEAT, boot_id=bytes(15) + b"x"), KEY),
        (replace(BEAT, row=2), KEY),
        (replace(BEAT, row=8), KEY),
        (replace(BEAT, row=4_000_000_000), KEY),
        (replace(BEAT, row=2, boot_id=bytes(16)), bytes(32)),
    ],
    ids=["forged", "other boot", "other row", "no such row", "huge row", "free row"],
)
def test_a_beat_that_does_not_fit_is_dropped(beat: Beat, key: bytes) -> None:
    assert lastseen.take(table_with_node(), encode(beat, key), 1.0) is None


def test_a_replayed_beat_is_dropped() -> None:
    table = table_with_node()
    assert lastseen.take(table, encode(replace(BEAT, counter=5), KEY), 1.0)
    assert lastseen.take(table, encode(replace(BEAT, counter=5), KEY), 2.0) is None
    assert lastseen.take(table, encode(replace(BEAT, counter=4), KEY), 2.0) is None
    assert lastseen.take(table, encode(replace(BEAT, counter=6), KEY), 2.0)


def beats(table: object, clock: SteppedClock, count: int, turns: int = 1) -> None:
    for number in range(count):
        clock.advance(1.0)
        counter = int(clock() * 10)
        datagram = encode(replace(BEAT, counter=counter, turns=10 + number * turns), KEY)
        assert lastseen.take(table, datagram, clock())


def test_a_silent_node_is_suspected_and_calmed_by_its_return() -> None:
    clock = SteppedClock()
    table = table_with_node()
    liveness = Liveness(table, threshold=8.0, stuck_after=100.0)
    liveness.expect(3, BOOT)
    beats(table, clock, 20)
    clock.advance(1.2)
    assert liveness.check(clock()) == []
    clock.advance(5.0)
    [suspicion] = liveness.check(clock())
    assert isinstance(suspicion, Suspected)
    assert (suspicion.row, suspicion.boot_id) == (3, BOOT)
    assert suspicion.phi > 8
    beats(table, clock, 1)
    assert liveness.check(clock()) == [Calmed(3, BOOT)]
    assert liveness.check(clock()) == []


def test_a_node_whose_main_loop_stands_still_is_suspected_although_it_beats() -> None:
    clock = SteppedClock()
    table = table_with_node()
    liveness = Liveness(table, threshold=8.0, stuck_after=7.0)
    liveness.expect(3, BOOT)
    beats(table, clock, 5)
    assert liveness.check(clock()) == []
    beats(table, clock, 10, turns=0)
    assert [type(change) for change in liveness.check(clock())] == [Suspected]


def test_an_unwatched_row_is_never_judged() -> None:
    liveness = Liveness(table_with_node(), threshold=8.0, stuck_after=7.0)
    liveness.expect(3, BOOT)
    liveness.forget(3)
    assert liveness.check(1e6) == []


def test_the_monitor_process_survives_garbage_and_enters_what_is_true() -> None:
    table = table_with_node(time.monotonic())
    with bind_udp("127.0.0.1", 0) as server, socket.socket(type=socket.SOCK_DGRAM) as node:
        monitor = HeartbeatMonitor([server], table)
        monitor.start()
        try:
            node.connect(server.getsockname())
            for datagram in (b"", b"x", b"\xff" * 112, b"\0" * 60_000, encode(BEAT, bytes(32))):
                node.send(datagram)
            node.send(encode(BEAT, KEY))
            eventually(lambda: table[3].beats == 1, what="heartbeat entered")  # type: ignore[index]
            assert monitor.is_alive()
        finally:
            monitor.kill()
            monitor.join()
            monitor.close()
