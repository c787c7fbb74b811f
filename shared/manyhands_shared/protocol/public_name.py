"""What others may know of a session."""

from __future__ import annotations

from hashlib import blake2b


def public_name(token: bytes) -> bytes:
    """Return the public name of the session with this token: BLAKE2b of it, 16 bytes."""
    return blake2b(token, digest_size=16).digest()
