"""Nodes on other hosts, started over ssh and ended with the command that started them.

Each host needs `manyhands`, and ssh without a password. The nodes have a worker's key of their own, for
this run: a thief of that key can submit nothing. It goes down the standard input,
never through an argument, and the node keeps it in memory alone. The input stays open: when it ends,
because this process has, the node leaves at once.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from manyhands import Client
from manyhands.cli import _output
from manyhands_shared.errors import ConfigError, ManyhandsError
from manyhands_shared.security import allow_list
from manyhands_shared.security.allow_list import Allowed
from manyhands_shared.security.cluster_key import ClusterKey
from manyhands_shared.security.role_key import RoleKey, to_hex

_SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=10")
#: How long nodes may take to finish what they run.
_DRAIN_SECONDS = 35.0
_LEAVE_SECONDS = 5.0


@contextlib.contextmanager
def node_key(cluster: Path) -> Iterator[bytes]:
    """A worker's key file, which is let in as long as this block lasts.

    Args:
        cluster: The cluster key of a broker that was not started yet; made if there is none.

    Raises:
        ConfigError: it cannot be used, or the list beside it cannot.
    """
    if not cluster.exists():
        ClusterKey.new().save(cluster)
    name = f"up-{secrets.token_hex(4)}"
    key = RoleKey.new("worker", name, to_hex(ClusterKey.load(cluster).pair("broker").public))
    with tempfile.TemporaryDirectory(prefix="manyhands-") as folder:
        file = Path(folder) / "node.key"
        key.save(file)
        text = file.read_bytes()
    allow_list.allow(allow_list.place(cluster), Allowed(key.public, key.role, name))
    try:
        yield text
    finally:
        allow_list.revoke(allow_list.place(cluster), name)


class RemoteNodes:
    """One node on each host.

    Args:
        hosts: As ssh takes them: a name, ``user@name``, or one of its configuration.
        port: Where the broker listens.
        advertise: The broker's host as they can reach it; empty takes the address from which ssh
            comes to them.
        key: What `node_key` gave.
        slots: Of each; `None` is one for each core.
        command: `manyhands` as those hosts know it.

    Raises:
        ConfigError: there is no ssh here.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        port: int,
        advertise: str,
        key: bytes,
        slots: int | None,
        command: str,
    ) -> None:
        #: The ssh processes, by the name of their node.
        self.links: dict[str, subprocess.Popen[bytes]] = {}
        for host in hosts:
            name = _name(host, self.links)
            line = _line(command, name, port, advertise, slots)
            self.links[name] = _start(host, line, key)

    @property
    def ended(self) -> dict[str, int]:
        """Exit codes of those that are over, by name."""
        codes = {name: link.poll() for name, link in self.links.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def close(self, address: str, key_file: Path) -> None:
        """Drain the nodes through their broker, then end what is left of them."""
        left = [name for name in self.links if name not in self.ended]
        if left:
            with contextlib.suppress(ManyhandsError, TimeoutError):
                self._drain(left, address, key_file)
        self._cut(self.links)
        self._wait(self.links, _LEAVE_SECONDS)
        for link in self.links.values():
            link.kill()
            link.wait()

    def _drain(self, names: Sequence[str], address: str, key_file: Path) -> None:
        with Client(address, key_file=key_file, name="manyhands up") as client:
            draining = []
            for name in names:
                try:
                    client.query("drain", node=name)
                    draining.append(name)
                except ManyhandsError:  # it has not joined, so it has nothing to finish
                    self._cut([name])
            self._wait(draining, _DRAIN_SECONDS)

    def _cut(self, names: Iterable[str]) -> None:
        """Have these leave at once."""
        for name in names:
            stdin = self.links[name].stdin
            assert stdin is not None
            with contextlib.suppress(OSError):
                stdin.close()

    def _wait(self, names: Iterable[str], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for name in names:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.links[name].wait(max(0.0, deadline - time.monotonic()))


def _name(host: str, taken: dict[str, subprocess.Popen[bytes]]) -> str:
    base = host.rpartition("@")[2]
    count = sum(name == base or name.startswith(f"{base}-") for name in taken)
    return f"{base}-{count}" if count else base


def _line(command: str, name: str, port: int, advertise: str, slots: int | None) -> str:
    """Return what the other host's shell is to run: in `sh`, because its user's shell is unknown."""
    # SSH_CONNECTION begins with the address that the connection comes from: this host.
    host = shlex.quote(advertise) if advertise else '"${SSH_CONNECTION%% *}"'
    words = f"--name {shlex.quote(name)} --slots {slots or 0} --log-level warning"
    script = (
        f"h={host}; case $h in *:*) h=[$h];; esac; "
        f'exec {command} worker --broker "tcp://$h:{port}" --key-file - --stay-with-stdin {words}'
    )
    return f"exec sh -c {shlex.quote(script)}"


def _start(host: str, line: str, key: bytes) -> subprocess.Popen[bytes]:
    if host.startswith("-"):
        raise ConfigError(f"{host!r} is no host for --ssh")
    try:
        link = subprocess.Popen(
            [*_SSH, host, line],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno(),
            process_group=0,  # Ctrl-C in the terminal is for us; they leave when we say so
        )
    except OSError as error:
        raise ConfigError(f"cannot start ssh to {host}: {error}") from None
    assert link.stdin is not None
    try:
        # The empty line ends the key; the input stays open behind it.
        link.stdin.write(key.strip() + b"\n\n")
        link.stdin.flush()
    except OSError:
        _output.note(f"{host}: ssh ended before it took the key")
    return link
