"""The heartbeats of an embedded cluster: received although their process starts late."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

from harness.processes import eventually
from manyhands_broker.core import ExpectHeartbeats
from manyhands_broker.core.model.machine import Machine
from manyhands_broker.heartbeats.service import Heartbeats
from manyhands_broker.poller import Poller
from manyhands_shared.config import BrokerConfig
from manyhands_shared.protocol.heartbeat import Beat, encode

BOOT, KEY = bytes(range(16)), bytes(range(32))


def test_a_heartbeat_that_comes_before_its_receiver_counts() -> None:
    poller = Poller()
    heartbeats = Heartbeats(["unix://@nowhere"], BrokerConfig(), time.monotonic, poller, later=True)
    try:
        list(heartbeats.check(time.monotonic()))
        assert not is_started(heartbeats), "for no node"
        heartbeats.update(ExpectHeartbeats(3, BOOT, KEY, Machine()))
        assert not is_started(heartbeats), "beside the node's first task"
        beat = Beat(3, BOOT, 1, 10, 2, 1.5, 1000, 5000, 0.5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for counter in (1, 2):
                datagram = encode(replace(beat, counter=counter), KEY)
                sock.sendto(datagram, ("127.0.0.1", heartbeats.port))
        list(heartbeats.check(time.monotonic()))
        assert is_started(heartbeats)
        eventually(lambda: heartbeats.figures(3)["beats"] == 2, what="both have come")
    finally:
        heartbeats.close()


def is_started(heartbeats: Heartbeats) -> bool:
    return heartbeats._monitor is not None
