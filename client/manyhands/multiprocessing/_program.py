"""The program that this process belongs to: its root makes it, every other member is born into it."""

from __future__ import annotations

import os

from manyhands.multiprocessing._channel import Channel


class Program:
    """This process's part of its program."""

    channel: Channel
    #: 16 bytes that travel inside pickled primitives: what knows them is of the program.
    secret: bytes
    #: The program's public id, and this member's.
    id: bytes
    member: bytes


def current() -> Program:
    """Return the program; the first time, connect or start what it needs.

    Raises:
        ConfigError, BrokerUnreachable, NotAuthorised, Refused: the cluster does not take it.
    """
    raise NotImplementedError


def secret() -> bytes:
    """Return the program's secret; connects nothing."""
    raise NotImplementedError


def init(address: str | None = None, *, key_file: str | os.PathLike[str] | None = None) -> None:
    """Say which cluster the program runs on, before anything of it is used.

    Args:
        address: the broker, as ``tcp://host:port``; else ``$MANYHANDS_BROKER``; else one of its own.
        key_file: your key; else ``$MANYHANDS_KEY_FILE``.

    Raises:
        RuntimeError: the program is connected already.
    """
    raise NotImplementedError
