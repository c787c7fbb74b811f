"""`manyhands up`: a cluster in the foreground, on this machine and others."""

from __future__ import annotations

import contextlib
import shlex
import signal
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from manyhands.cli import _announced, _output
from manyhands.cli._errors import JobFailed
from manyhands.cli._options import json_option
from manyhands.cli._user_files import FILE
from manyhands.cli._verb import Verb
from manyhands_shared.errors import ConfigError
from manyhands_shared.transport.address import DEFAULT_PORT

if TYPE_CHECKING:
    from manyhands import LocalCluster
    from manyhands.cli._remote import RemoteNodes


#: How often it looks whether every process is still there.
_POLL_SECONDS = 0.5


@click.command(
    cls=Verb,
    name="up",
    examples=(
        ("two nodes, one slot each; other terminals find it", "manyhands up"),
        ("a port of one's own, and eight slots", "manyhands up --port 7712 --nodes 2 --slots 4"),
        (
            "a broker here, a node on each of three hosts",
            "manyhands up --ssh host1,host2,host3 --key-file cluster.key",
        ),
    ),
)
@click.option(
    "--nodes",
    type=click.IntRange(0, 64),
    help="Nodes on this machine.  [default: 2, with --ssh 0]",
)
@click.option(
    "--slots",
    type=click.IntRange(1, 1_024),
    help="Slots of each node.  [default: 1, on other hosts one for each core]",
)
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Where the broker listens.  [default: 127.0.0.1, with --ssh 0.0.0.0]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Its port; 0 picks a free one.  [default: 7711, or a free one if that is taken]",
)
@click.option(
    "--http",
    default="127.0.0.1:0",
    show_default=True,
    metavar="HOST:PORT",
    help="Where its dashboard is; port 0 picks a free one, and '' serves none.",
)
@click.option(
    "--key-file",
    type=FILE,
    envvar="MANYHANDS_KEY_FILE",
    help="Key file of the cluster, made if there is none.  [default: with --ssh one for this run]",
)
@click.option(
    "--ssh", "hosts", metavar="HOSTS", help="Also a node on each of these: HOST,USER@HOST."
)
@click.option(
    "--advertise",
    default="",
    metavar="HOST",
    help="This machine, as those hosts reach it.  [default: where their ssh comes from]",
)
@click.option(
    "--remote-command",
    default="manyhands",
    show_default=True,
    metavar="PATH",
    help="The command on those hosts.",
)
@json_option
def command(*, hosts: str | None, json: bool, **wishes: Any) -> None:
    """Run a broker and nodes until Ctrl-C or SIGTERM, then end them all.

    The nodes are on this machine and, with --ssh, on others, which need the command too. Ending
    waits for the tasks that run, half a minute at most; a second Ctrl-C does not.

    It prints the lines to export for programs. Commands of the same user need none: without --broker,
    MANYHANDS_BROKER and a configuration file they find the cluster by a file in $XDG_RUNTIME_DIR.
    """
    others = [host.strip() for host in (hosts or "").split(",") if host.strip()]
    if hosts is not None and not others:
        raise ConfigError("--ssh names no host; write HOST,HOST")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with contextlib.ExitStack() as stack:
            _run(_Wishes(others, **wishes), stack, json=json)
    except KeyboardInterrupt:
        _output.note("ended")


@dataclass(frozen=True)
class _Wishes:
    """What was asked for; see the options."""

    hosts: list[str]
    nodes: int | None
    slots: int | None
    listen: str | None
    port: int | None
    http: str
    key_file: Path | None
    advertise: str
    remote_command: str


def _run(wishes: _Wishes, stack: contextlib.ExitStack, *, json: bool) -> NoReturn:
    from manyhands import LocalCluster  # noqa: PLC0415 - so that --help is quick

    key_file, slots = wishes.key_file, wishes.slots
    if key_file is None and wishes.hosts:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="manyhands-"))
        key_file = Path(folder) / "cluster.key"
    secret = b""
    if wishes.hosts and key_file is not None:
        from manyhands.cli import _remote  # noqa: PLC0415 - only if wanted

        secret = stack.enter_context(_remote.node_key(key_file))
    listen = wishes.listen or ("0.0.0.0" if wishes.hosts else "127.0.0.1")
    broker: dict[str, Any] = {"http": wishes.http}
    worker = {}
    if key_file is not None:
        worker["key_file"] = str(key_file)
        broker |= {"key_file": str(key_file), "create_key": True}
    count = wishes.nodes if wishes.nodes is not None else 0 if wishes.hosts else 2

    port = DEFAULT_PORT if wishes.port is None else wishes.port
    broker |= {"bind": f"tcp://{_bracketed(listen)}:{port}", "any_port": wishes.port is None}
    cluster = stack.enter_context(
        LocalCluster(nodes=count, slots=slots or 1, broker=broker, worker=worker)
    )
    if wishes.port is None and not cluster.address.endswith(f":{port}"):
        _output.note(f"port {port} is taken, so the broker listens on another")
    remote = None
    if secret and key_file is not None:
        remote = _remote.RemoteNodes(
            wishes.hosts,
            port=int(cluster.address.rpartition(":")[2]),
            advertise=wishes.advertise,
            key=secret,
            slots=slots,
            command=wishes.remote_command,
        )
        stack.callback(remote.close, cluster.address, key_file)
    key = str(key_file.absolute()) if key_file is not None else ""
    unfound = stack.enter_context(_announced.announced(cluster.address, key))
    if unfound:
        _output.note(unfound)
    _announce(cluster, remote, slots, key, json=json)
    _supervise(cluster, remote)


def _announce(
    cluster: LocalCluster,
    remote: RemoteNodes | None,
    slots: int | None,
    key: str,
    *,
    json: bool,
) -> None:
    names = [node.name for node in cluster.nodes] + list(remote.links if remote else ())
    if json:
        _output.document(
            address=cluster.address,
            pids=cluster.pids,
            nodes=names,
            key_file=key or None,
            dashboard=cluster.dashboard_url or None,
        )
        return
    each = "one a core" if remote and slots is None else slots or 1
    _output.note(f"nodes: {len(names)}, slots of each: {each}; Ctrl-C ends them")
    if cluster.dashboard_url:
        _output.note(f"its dashboard: {cluster.dashboard_url}")
    _output.note("commands of yours find it; for programs and others:")
    _output.say(f"export MANYHANDS_BROKER={shlex.quote(cluster.address)}")
    if key:
        _output.say(f"export MANYHANDS_KEY_FILE={shlex.quote(key)}")


def _supervise(cluster: LocalCluster, remote: RemoteNodes | None) -> NoReturn:
    """Look after the processes until a signal comes; it tells of a node that dies."""
    pause = threading.Event()
    lost: set[str] = set()
    while True:
        pause.wait(_POLL_SECONDS)
        if cluster.broker is not None and cluster.broker.poll() is not None:
            raise JobFailed(
                f"the broker ended with exit code {cluster.broker.returncode}; start again"
            )
        ended = dict(remote.ended) if remote is not None else {}
        for node in cluster.nodes:
            if node.process.poll() is not None:
                ended[node.name] = node.process.returncode
        for name in ended.keys() - lost:
            _output.note(f"node {name} ended with exit code {ended[name]}")
        lost = set(ended)
        if len(lost) == len(cluster.nodes) + len(remote.links if remote else ()):
            raise JobFailed("no node is left; start again")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
