"""The secret of a program, and what is derived from it.

The secret travels inside pickled objects: a process that can read these is of the program. The broker
knows only the id, by which it is called, and the key by which members prove that they know the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import os

ID_BYTES = 16
#: In place of an id where there is none.
NO_ID = bytes(ID_BYTES)


def new_secret() -> bytes:
    """Return the secret of a new program."""
    return os.urandom(ID_BYTES)


def new_id() -> bytes:
    """Return the id of a new member or object."""
    return os.urandom(ID_BYTES)


def program_id(secret: bytes) -> bytes:
    """Return by what a program is called in public."""
    return hashlib.blake2b(secret, digest_size=ID_BYTES).digest()


def member_key(secret: bytes) -> bytes:
    """Return the key of the members' proofs."""
    return hashlib.blake2b(secret, digest_size=32).digest()


def proof(key: bytes, member: bytes) -> bytes:
    """Return what a member shows to prove that it knows the secret. `key` is the secret's member key."""
    return hashlib.blake2b(member, digest_size=ID_BYTES, key=key).digest()


def is_proof(key: bytes, member: bytes, shown: bytes) -> bool:
    """Return whether a member's proof is true."""
    return hmac.compare_digest(proof(key, member), shown)
