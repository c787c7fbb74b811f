"""What a held result's body says: where the result is to be had.

A msgpack map: `host` (see `loans.host_id`) and `lender`, the address there; `key` of the segment; and
`lengths` of the buffers that lie in it, in bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import msgpack

from manyhands_shared.errors import ProtocolError
from manyhands_shared.loans.lender import KEY_BYTES


@dataclass(frozen=True, slots=True)
class Ticket:
    """Where a held result lies."""

    host: str
    lender: str
    key: bytes
    lengths: list[int]

    def encode(self) -> bytes:
        """As the body of a result."""
        packed: bytes = msgpack.packb(asdict(self), use_bin_type=True)
        return packed

    @classmethod
    def decode(cls, body: Any) -> Ticket:
        """Check and build.

        Raises:
            ProtocolError: it is no ticket.
        """
        try:
            values = msgpack.unpackb(body, raw=False)
            ticket = cls(values["host"], values["lender"], values["key"], values["lengths"])
        except Exception as error:  # noqa: BLE001 - whatever msgpack raises, it is none
            raise ProtocolError(f"a ticket that cannot be read ({error})") from None
        sound = (
            type(ticket.host) is str
            and type(ticket.lender) is str
            and type(ticket.key) is bytes
            and len(ticket.key) == KEY_BYTES
            and type(ticket.lengths) is list
            and bool(ticket.lengths)
            and all(type(length) is int and length >= 0 for length in ticket.lengths)
        )
        if not sound:
            raise ProtocolError("a ticket with fields of other kinds")
        return ticket
