"""What a held result's body says: where the result is to be had.

A msgpack map:

- `host` (see `shm.host_id`) and `lender`, the address there;
- `key` of the segment, and `lengths` of the buffers that lie in it, in bytes;
- `server`, if the node serves clients of other hosts: its numeric address, port and public key.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import MAX_BUFFERS
from manyhands_shared.protocol.parts import KEY_BYTES

if TYPE_CHECKING:
    from manyhands_shared.protocol.bounds import Bound


class Server(NamedTuple):
    """Where a node serves results: a numeric address, a port, and its public key of 32 bytes."""

    address: str
    port: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Ticket:
    """Where a held result lies."""

    host: str
    lender: str
    key: bytes
    lengths: list[int]
    server: Server | None = None

    def encode(self) -> bytes:
        """As the body of a result."""
        values: dict[str, Any] = {
            "host": self.host,
            "lender": self.lender,
            "key": self.key,
            "lengths": self.lengths,
        }
        if self.server is not None:
            values["server"] = list(self.server)
        packed: bytes = msgpack.packb(values, use_bin_type=True)
        return packed

    @classmethod
    def decode(cls, body: Any) -> Ticket:
        """Check and build.

        Raises:
            ProtocolError: it is no ticket.
        """
        try:
            values = msgpack.unpackb(body, raw=False)
            ticket = cls(
                values["host"],
                values["lender"],
                values["key"],
                values["lengths"],
                _server(values.get("server")),
            )
        except Exception as error:  # noqa: BLE001 - whatever msgpack raises, it is none
            raise ProtocolError(f"a ticket that cannot be read ({error})") from None
        if not _is_sound(ticket):
            raise ProtocolError("a ticket with fields of other kinds, or out of bounds")
        return ticket


def _is_sound(ticket: Ticket) -> bool:
    # 5 ms that a child, which only writes tickets, should not pay
    from manyhands_shared.protocol import bounds  # noqa: PLC0415

    known = _bounds()
    return (
        all(bounds.check(bound)(getattr(ticket, name)) for name, bound in known.items())
        and sum(ticket.lengths) <= bounds.MAX_INDEX
    )


@cache
def _bounds() -> dict[str, Bound]:
    """What each field may be. The longest name of an abstract socket has 107 bytes."""
    from manyhands_shared.protocol.bounds import Bytes, Indices, Text  # noqa: PLC0415 - as above

    return {
        "host": Text(200),
        "lender": Text(107),
        "key": Bytes("key", KEY_BYTES),
        "lengths": Indices("lengths", 1, MAX_BUFFERS + 1, distinct=False),
    }


def _server(values: Any) -> Server | None:
    """Raises ValueError or TypeError if it is none."""
    if values is None:
        return None
    server = Server(*values)
    # Never a name: a node is not to have a client look names up.
    ip_address(server.address)
    if type(server.port) is not int or not 0 < server.port < 1 << 16:
        raise ValueError("no port")
    if type(server.address) is not str or type(server.key) is not bytes or len(server.key) != 32:
        raise TypeError("no server")
    return server
