"""Who may see the dashboard, and by which key a visitor comes.

Where the server listens on a loopback address alone, everybody may look on. Without keys they may act
too, as all who reach the broker may. With keys they are guests, until they come with a token. Elsewhere
there is nothing without a token.

`manyhands dashboard` asks the broker for a token to *enter* with, which holds for a minute. The server
exchanges it for a cookie, which holds for half a day. Both name the key of who asked. What the key may
do is looked up with each request: it may be revoked.

Both are signed with a secret that comes from the cluster's key. They outlive the broker's process, and
not this run of the machine: how long they hold counts in its monotonic clock.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

#: Seconds that a token holds, by its kind.
ENTER, STAY = "enter", "stay"
_SECONDS = {ENTER: 60.0, STAY: 12 * 3_600.0}
#: Stands for the key of one who has come without any where there are keys.
GUEST = "guest"
COOKIE = "manyhands"


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of one server, which the broker's process and the server's share.

    Args:
        open: whether it listens on a loopback address alone.
        keyed: whether the broker has keys.
        secret: what tokens are signed with.
    """

    open: bool
    keyed: bool
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def make(self, kind: str, key: str, now: float) -> str:
        """Return a token for the holder of the public key `key`; empty where there are no keys."""
        text = f"{kind}.{now + _SECONDS[kind]:.0f}.{key}"
        return f"{text}.{self._sign(text)}"

    def read(self, kind: str, token: str, now: float) -> str | None:
        """Return the key that a token names; `None` if it does not hold."""
        text, _, sign = token.rpartition(".")
        if not hmac.compare_digest(sign.encode(), self._sign(text).encode()):
            return None
        found, until, key = text.split(".")
        return key if found == kind and now < float(until) else None

    def visitor(self, cookie: str, now: float) -> str | None:
        """Return by which key a request comes: `GUEST` without, `None` if it may see nothing."""
        key = self.read(STAY, cookie, now)
        if key is not None or not self.open:
            return key
        return GUEST if self.keyed else ""

    def _sign(self, text: str) -> str:
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()
