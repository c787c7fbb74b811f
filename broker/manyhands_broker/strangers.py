"""Tells the operator who comes and is not let in: each address now and then."""

from __future__ import annotations

import logging

import zmq

from manyhands_shared.security.role_key import to_hex
from manyhands_shared.text import printable

log = logging.getLogger("manyhands.broker")

#: An address that goes on coming is told of again after this time.
#: The other number is how many addresses are told of in that time.
_TELL_AGAIN_SECONDS, _MAX_TOLD = 60.0, 100
_OTHER_KEY = int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)


class Strangers:
    """Those that one listening socket does not let in."""

    def __init__(self) -> None:
        #: Address → when it was told of last.
        self._told: dict[str, float] = {}

    def showed_key(self, address: str, key: str, now: float) -> None:
        """Tell of a key, in ZeroMQ's form, that was shown from an address."""
        if not self._to_be_told(address, now):
            return
        try:
            shown = to_hex(key.encode())
        except ValueError:
            shown = "no key"
        log.warning(
            "a peer at %s shows a key that is not let in: %s; `manyhands keys allow` lets a key in",
            printable(address),
            shown,
        )

    def failed_handshake(self, address: str, why: int, now: float) -> None:
        """Tell of a peer whose handshake was refused; `why` is ZeroMQ's number of a protocol error."""
        if not self._to_be_told(address, now):
            return
        cause = "only one of the two has a key"
        if why == _OTHER_KEY:
            cause = "its key file is of another cluster"
        log.warning("a peer at %s is refused in the handshake: %s", printable(address), cause)

    def _to_be_told(self, address: str, now: float) -> bool:
        while self._told and now - next(iter(self._told.values())) >= _TELL_AGAIN_SECONDS:
            del self._told[next(iter(self._told))]
        if address in self._told or len(self._told) >= _MAX_TOLD:
            return False
        self._told[address] = now
        return True
