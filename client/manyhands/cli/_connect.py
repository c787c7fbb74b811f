"""Reaching a cluster: the one that is named, or one of this machine's own for a single command."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click
from click.core import ParameterSource

from manyhands import Client
from manyhands._local.embedded import EmbeddedCluster
from manyhands.cli import _announced, _output
from manyhands.cli import _settings as settings
from manyhands.cli._early_start import begin_cluster
from manyhands_shared.config import ClientConfig
from manyhands_shared.transport.address import DEFAULT_BIND


@contextlib.contextmanager
def client(
    *,
    embed: bool = False,
    begun: EmbeddedCluster | None = None,
    slots: int | None = None,
    limit: int = 0,
    patient: bool = False,
    **values: Any,
) -> Iterator[Client]:
    """Yield a client of the named broker.

    Without a name it is the cluster of this user's `manyhands up`. Without that it is the broker at the
    default address or, with `embed`, a cluster on this machine. That one ends with the command; it has
    `slots` pool children, one a core if `None`. At most `limit` of the client's tasks run at once; 0 is
    no limit. `begun` is what `begin_cluster` has returned to a caller that has called it.

    Where nothing listens it gives up after two seconds, unless --connect-timeout is given. A `patient`
    one waits for a broker that is started anew.
    """
    with contextlib.ExitStack() as stack:
        cluster = begun
        if embed and cluster is None:
            # It starts while the check of the options imports what that needs.
            cluster = begin_cluster(values.get("broker"), slots)
        if cluster is not None:
            # No caller wants what still runs when the command ends.
            stack.callback(cluster.close)
        config = settings.validate(ClientConfig, values)
        address, key_file = config.broker or DEFAULT_BIND, config.key_file
        found = None if config.broker or cluster is not None else _announced.find()
        if found is not None:
            address, key_file = found.address, key_file or found.key_file
            _output.note(f"no broker named: working with that of `manyhands up`, {address}")
        elif cluster is not None:
            cluster.wait()
            address, key_file = cluster.address, ""
            _output.note("no broker named: working on this machine alone")
        client = stack.enter_context(
            Client(
                address,
                key_file=key_file or None,
                name="manyhands command",
                limit=limit,
                connect_timeout=config.connect_timeout
                if patient or _is_given("connect_timeout")
                else None,
            )
        )
        client._io.printer.to_stderr = True  # results alone go to standard output
        if cluster is not None:
            cluster.keep(client.abort)
        yield client


def _is_given(option: str) -> bool:
    """Whether the user chose a value for an option of the verb, in whatever way."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(option) not in (
        None,
        ParameterSource.DEFAULT,
    )
