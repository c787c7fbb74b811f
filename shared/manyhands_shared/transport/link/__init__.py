"""A link: one connection to the broker for as long as it lives, of a client or a node.

When an established connection is lost, a new link with a new routing id replaces it. So nothing that
was sent over the old one can arrive on the new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhands_shared.transport.address import is_unix
from manyhands_shared.transport.link.base import Link, LinkEvent
from manyhands_shared.transport.link.unix import UnixLink

if TYPE_CHECKING:
    from manyhands_shared.security.role_key import Credentials

__all__ = ["Link", "LinkEvent", "connect"]


def connect(
    address: str, routing_id: bytes, key: Credentials | None, *, others: bool = False
) -> Link:
    """Begin to connect to the broker at a full address.

    Args:
        address: ``tcp://HOST:PORT`` or ``unix://PATH``.
        routing_id: 16 bytes, new for each link.
        key: what to prove oneself with over TCP.
        others: whether there are other addresses to try, so that a failure is to be told.

    Raises:
        ConfigError: the system does not know such an address.
    """
    if is_unix(address):
        return UnixLink(address)
    from manyhands_shared.transport.link.zeromq import ZmqLink  # noqa: PLC0415 - 20 ms, where it is wanted

    return ZmqLink(address, routing_id, key, others=others)
