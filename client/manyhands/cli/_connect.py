"""Reaching a cluster: the one that is named, or one of this machine's own for a single command."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from manyhands import Client
from manyhands._local.embedded import EmbeddedCluster
from manyhands.cli import _output
from manyhands.cli import _settings as settings
from manyhands_shared.config import ClientConfig
from manyhands_shared.transport.address import DEFAULT_BIND


@contextlib.contextmanager
def client(
    *, embed: bool = False, slots: int | None = None, limit: int = 0, **values: Any
) -> Iterator[Client]:
    """Yield a client of the named broker.

    Without a name it is the broker at the default address or, with `embed`, a cluster on this
    machine. That cluster ends with the command; it has `slots` pool children, one a core if `None`.
    At most `limit` of the client's tasks run at once; 0 is no limit.
    """
    config = settings.validate(ClientConfig, values)
    with contextlib.ExitStack() as stack:
        address, key_file = config.broker or DEFAULT_BIND, config.key_file
        cluster = None
        if not config.broker and embed:
            cluster = EmbeddedCluster(slots)
            # No caller wants what still runs when the command ends.
            stack.callback(cluster.close)
            address, key_file = cluster.address, ""
            _output.note("no broker named: working on this machine alone")
        client = stack.enter_context(
            Client(
                address,
                key_file=key_file or None,
                name="manyhands command",
                limit=limit,
                connect_timeout=config.connect_timeout,
            )
        )
        client._io.printer.to_stderr = True  # results alone go to standard output
        if cluster is not None:
            cluster.keep(client.abort)
        yield client
