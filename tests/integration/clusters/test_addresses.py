"""Finding the broker: several addresses, names with several, IPv6, several places to listen."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import manyhands
from harness.cluster.bench import Bench, bench, joined
from harness.command import document, run
from harness.processes import eventually, free_port

__all__ = ["bench"]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback address here")


def test_of_several_addresses_the_one_that_answers_is_found(bench: Bench) -> None:
    broker = bench.broker()
    closed = free_port()
    # A place that takes connections and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as mute:
        several = ",".join(
            f"tcp://127.0.0.1:{port}" for port in (closed, mute.getsockname()[1], broker.port)
        )
        bench.node(several)
        client = bench.client(several)
        assert client.address == several
        joined(client, 1)
        assert client.submit_job(pow, [(2, 3)]).results() == [8]
        eventually(lambda: client.query("nodes")[0]["beats"], what="heartbeats find it too")


def test_a_broker_that_comes_back_elsewhere_is_found_again(bench: Bench, tmp_path: Path) -> None:
    first, second = bench.broker(), free_port()
    several = f"{first.address},tcp://127.0.0.1:{second}"
    bench.node(several)
    executor = bench.executor(several)
    assert executor.submit(pow, 2, 2).result(60) == 4
    first.kill()
    waits = executor.submit(pow, 2, 3)
    (tmp_path / "second").mkdir()
    other = Bench(tmp_path / "second")
    with other.stack:
        other.broker(bind=f"tcp://127.0.0.1:{second}", beat_port=second)
        assert waits.result(60) == 8
    bench.nodes[0].kill()  # without a broker it could not drain


def test_the_command_takes_them_with_commas_repeated_and_from_outside(bench: Bench) -> None:
    broker, closed = bench.broker(), f"tcp://127.0.0.1:{free_port()}"
    both = f"{closed},{broker.address}"
    file = bench.folder / "manyhands.toml"
    for arguments, environment, lines in (
        (["--broker", both], {}, ""),
        (["--broker", closed, "--broker", broker.address], {}, ""),
        ([], {"MANYHANDS_BROKER": both}, ""),
        ([], {}, f'[client]\nbroker = "{both}"\n'),
        ([], {}, f'[client]\nbroker = ["{closed}", "{broker.address}"]\n'),
    ):
        file.write_text(lines)
        answer = run("nodes", "--json", *arguments, cwd=bench.folder, env=environment)
        assert document(answer)["nodes"] == []


@needs_ipv6
def test_a_broker_listens_in_several_places_of_both_families(bench: Bench) -> None:
    port = free_port()
    four, six = f"tcp://127.0.0.1:{port}", f"tcp://[::1]:{port}"
    broker = bench.broker(bind=f"{four},{six}", beat_port=port)
    bench.node(four, "four")
    bench.node(six, "six")
    client = bench.client(six)
    joined(client, 2)
    tasks = [(2, n) for n in range(20)]
    assert client.submit_job(pow, tasks).results() == [2**n for n in range(20)]
    # UDP as well, over either.
    eventually(lambda: all(node["beats"] > 1 for node in client.query("nodes")), what="heartbeats")
    assert "Traceback" not in broker.log


@needs_ipv6
def test_a_name_with_two_addresses_of_which_one_answers(bench: Bench) -> None:
    if len({entry[4][0] for entry in socket.getaddrinfo("localhost", 1)}) < 2:
        pytest.skip("localhost has one address here")
    for host in ("127.0.0.1", "[::1]"):
        port = free_port()
        bench.broker(bind=f"tcp://{host}:{port}", beat_port=port)
        with manyhands.Client(f"tcp://localhost:{port}") as client:
            assert client.query("nodes") == []
