"""The authenticator's thread, with the address at which it was shown a key.

A module of its own, which is imported with the first secured socket: it takes asyncio along.
"""

from __future__ import annotations

from collections.abc import Callable

from manyhands_shared.security.authenticator import Authenticator

#: Frames of a request before its mechanism, and where the address is.
_ADDRESS = 3


class AddressedAuthenticator(Authenticator):
    """Tells where a request comes from, before the callback is asked for its key.

    `at` is called with the address.
    """

    at: Callable[[str], None]

    async def handle_zap_message(self, msg: list[bytes]) -> None:
        """Answer a request; see the base class."""
        if len(msg) > _ADDRESS:
            self.at(msg[_ADDRESS].decode("ascii", "replace"))
        await super().handle_zap_message(msg)
