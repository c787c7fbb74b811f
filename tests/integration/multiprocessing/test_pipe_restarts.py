"""Streams go on when the broker does, and end with what is at the other end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.programs import Hosts, Script

_PUMP = """
    def pump(end):
        for number in range(3000):
            end.send((number, b"x" * 5000))
        end.close()

    if __name__ == "__main__":
        receiver, sender = mp.Pipe(False)
        p = mp.Process(target=pump, args=(sender,))
        p.start()
        sender.close()
        try:
            for number in range(3001):
                assert receiver.recv()[0] == number
                if number in (100, 1500):
                    print("under way", flush=True)
                    signal.sigwait([signal.SIGUSR1])
        except (EOFError, OSError):
            print("the end", number)
        p.join()
        print(p.exitcode)
"""


@pytest.fixture
def hosts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """One node, on another host than the root."""
    folder = tmp_path / "coordination"
    # A broker that is started again gives a host's agent one lease to come back.
    lease = getattr(request, "param", 60.0)
    started = Hosts(tmp_path, ("a",), lease=lease, coordination_dir=str(folder))
    yield started
    started.close()


@pytest.fixture
def script(hosts: Hosts, tmp_path: Path) -> Script:
    """A process on the other host sends 15 MB, and the root waits for a signal in between."""
    text = "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n" + _PUMP
    return Script(tmp_path, text, address=hosts.broker.address)


def test_a_restart_of_the_broker_loses_no_byte(hosts: Hosts, script: Script) -> None:
    for _ in range(2):
        script.until("under way")
        hosts.broker.kill()
        script.process.send_signal(signal.SIGUSR1)
        hosts.broker.start()
    code, err = script.finish()
    assert code == 0, err
    assert script.lines[-2:] == ["the end 3000", "0"]


@pytest.mark.parametrize("hosts", [6.0], indirect=True)
def test_a_host_that_is_lost_ends_the_stream(hosts: Hosts, script: Script) -> None:
    script.until("under way")
    hosts.nodes["a"].kill()
    script.process.send_signal(signal.SIGUSR1)
    code, err = script.finish()
    assert code == 0, err
    assert script.lines[-1] == "-9"
    assert script.lines[-2].startswith("the end ")
