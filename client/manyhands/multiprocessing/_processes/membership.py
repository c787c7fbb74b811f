"""How this process comes into its program, finds it, and leaves it: one process, one program.

A pool's child may be a member of several, one after the other.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from importlib import import_module
from types import TracebackType
from typing import Any

from manyhands.multiprocessing._processes.program import Program
from manyhands_shared.coordination import identity, pool_child
from manyhands_shared.coordination.channel import MemberChannel
from manyhands_shared.errors import ConfigError, SharedStateLost
from manyhands_shared.processes.thread_start import start
from manyhands_shared.transport import peer_credentials

_ENDED = "the program has ended"
_PICKLER = "manyhands_shared.payloads.by_value.script_pickle"


class _Process:
    """What this process knows of its program."""

    lock = threading.RLock()
    program: Program | None = None
    secret: bytes | None = None
    address: str | None = None
    key_file: str | os.PathLike[str] | None = None
    #: Secrets of the programs that this process has left.
    ended: set[bytes] = set()  # noqa: RUF012 - one for the process
    #: Of a pool's child: the programs that it has become a member of, and one that a task has begun, by
    #: their secrets.
    joined: dict[bytes, Program] = {}  # noqa: RUF012 - one for the process


def current() -> Program:
    """Return the program; the first time, connect or start what it needs.

    Raises:
        ConfigError, BrokerUnreachable, NotAuthorised, Refused: the cluster does not take it.
    """
    program = _Process.program
    if program is None:
        with _Process.lock:
            if _Process.program is None:
                _Process.program = _begin()
            program = _Process.program
    return program


def begun() -> Program:
    """Return the program, for what exists only in one; begin none.

    Raises:
        SharedStateLost: it has ended, or none has begun.
    """
    program = _Process.program
    if program is None:
        raise SharedStateLost(_ENDED if _Process.ended else "no program has begun here")
    return program


def secret() -> bytes:
    """Return the program's secret; connects nothing."""
    found = _Process.secret
    if found is None:
        with _Process.lock:
            found = _Process.secret = _Process.secret or identity.new_secret()
    return found


def belong(of: bytes, what: str) -> None:
    """Check that what was unpickled is of this program.

    Args:
        of: the secret of its program.
        what: what users call it.

    Raises:
        SharedStateLost: it is of a program that this process has left.
        ValueError: it is of another program.
    """
    if of in _Process.ended:
        raise SharedStateLost(f"this {what} was lost: {_ENDED}")
    join(of)
    if of != secret():
        raise ValueError(
            f"this {what} belongs to another program: pass it to processes that its program starts"
        )


def join(of: bytes) -> None:
    """Make this process, if it is a pool's child, a member of the program that it loads something of."""
    if _Process.secret != of and _can_join():
        _join(of)


def of(wanted: bytes | None) -> Program:
    """Return the program of a secret, or this process's if it is not given.

    A pool's child may be a member of several.

    Raises:
        SharedStateLost: that program has ended. What belongs to it begins no other.
        as `current` does, without a secret.
    """
    if wanted is None:
        return current()
    program = _Process.program if wanted == _Process.secret else _Process.joined.get(wanted)
    if program is None:
        raise SharedStateLost(_ENDED)
    return program


def _can_join() -> bool:
    """Whether this is a pool's child, which belongs to whatever program it is sent the objects of."""
    program = _Process.program
    return bool(pool_child.agent_address) and (
        program is None or program.is_root or program.secret in _Process.joined
    )


def _join(of: bytes) -> None:
    """Become a member of a program, by this host's agent."""
    with _Process.lock:
        own = _Process.program
        if own is not None and own.is_root:
            _Process.joined[own.secret] = own
        program = _Process.joined.get(of)
        if program is None:
            for known in [one for one, its in _Process.joined.items() if its.channel.over]:
                del _Process.joined[known]
            stream = MemberChannel(peer_credentials.connect(pool_child.agent_address))
            program = _Process.joined[of] = Program(of, identity.new_id(), stream)
            program.hello()
        _Process.program, _Process.secret = program, of


def init(address: str | None = None, *, key_file: str | os.PathLike[str] | None = None) -> None:
    """Say which cluster the program runs on, before anything of it is used.

    Args:
        address: the broker, as ``tcp://host:port``; else ``$MANYHANDS_BROKER``; else one of its own.
        key_file: your key; else ``$MANYHANDS_KEY_FILE``.

    Raises:
        RuntimeError: the program runs already.
    """
    with _Process.lock:
        if _Process.program is not None:
            raise RuntimeError(
                "init() comes too late: the program is connected to a cluster already"
            )
        _Process.address, _Process.key_file = address, key_file


def poke(of: bytes) -> None:
    """Have the program of a secret look at what is due. It may be called in a finalizer."""
    program = _Process.program if of == _Process.secret else _Process.joined.get(of)
    if program is not None:
        program.channel.poke()


def is_left(of: bytes) -> bool:
    """Whether this process is in no program of that secret any more."""
    return of != _Process.secret and of not in _Process.joined


def has_address() -> bool:
    """Whether the program runs on a cluster that was named."""
    return _Process.address is not None or bool(os.environ.get("MANYHANDS_BROKER"))


def enter(program: Program) -> None:
    """Make this process, which was started for it, a member of a program."""
    _Process.program, _Process.secret = program, program.secret


def leave() -> None:
    """End this process's part of its program, if it has one."""
    program, _Process.program = _Process.program, None
    if program is not None:
        _Process.ended.add(program.secret)
        _Process.secret = None
        program.leave()


def _begin() -> Program:
    from manyhands.multiprocessing._processes.cluster import Cluster  # noqa: PLC0415 - of a root alone

    if not sys.platform.startswith("linux"):
        raise ConfigError("manyhands.multiprocessing needs Linux; manyhands.Pool runs here too")
    # What the first pickling needs is loaded while the cluster starts.
    start(threading.Thread(target=import_module, args=(_PICKLER,), daemon=True))
    cluster = Cluster(_Process.address, _Process.key_file)
    try:
        key, root = secret(), identity.new_id()
        stream = cluster.connect(identity.program_id(key), root, identity.member_key(key))
        program = Program(key, root, stream, cluster)
    except BaseException:
        cluster.close()
        raise
    try:
        program.begin()
    except BaseException:
        program.leave()
        raise
    # Registered behind that of the connection, and so called before it.
    atexit.register(_end_at_exit)
    sys.excepthook = _Interrupted(sys.excepthook)
    return program


def _end_at_exit() -> None:
    """Let the standard library end daemons and join the rest; then end what is left."""
    from multiprocessing import util  # noqa: PLC0415 - loaded with the first process

    util._exit_function()  # type: ignore[attr-defined]
    leave()


class _Interrupted:
    """An exception hook: Ctrl-C that ends the root ends its processes, as on a terminal.

    Args:
        hook: what was there before.
    """

    def __init__(self, hook: Any) -> None:
        self._hook = hook

    def __call__(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> Any:
        program = _Process.program
        if program is not None and issubclass(kind, KeyboardInterrupt):
            program.interrupt()
        return self._hook(kind, error, trace)


def _disown() -> None:
    _Process.lock = threading.RLock()
    program = _Process.program
    for one in {program, *_Process.joined.values()} - {None}:
        one.disown()  # type: ignore[union-attr]


os.register_at_fork(after_in_child=_disown)
