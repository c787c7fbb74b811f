"""Keys for one person or machine and one role, and what any key file lets a process connect with.

A role key is one line in a file that only its owner may read. It has role, name, its own random
secret, and the public key of the broker that it is for. It opens that broker only if the broker's
operator has allowed its public key (`allow_list`), so it can be taken back alone.

Where people see public keys, these are written as 64 hexadecimal digits. ZeroMQ's own form is full of
characters that mean something to a shell.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from manyhands_shared.errors import ConfigError
from manyhands_shared.security.cluster_key import ClusterKey, KeyPair, read_private, write_private

#: What a key may be for. An admin is a client who may also order what concerns others.
ROLES = ("client", "worker", "admin")
MAX_NAME_CHARS = 64
_MAGIC = "manyhands-role-key-v1:"
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._@-]{{0,{MAX_NAME_CHARS - 1}}}")
_HEX32 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a process connects with: its own key pair, and the broker's public key in ZeroMQ's form."""

    pair: KeyPair
    server: bytes


class RoleKey:
    """The key of one person or machine. Its `repr` never shows the secret."""

    __slots__ = ("_secret", "broker", "name", "role")

    def __init__(self, role: str, name: str, secret: bytes, broker: str) -> None:
        """`broker` is the public key of the broker, in hexadecimal.

        Raises:
            ConfigError: no such role, or a name or key that cannot be one.
        """
        self.role = check_role(role)
        self.name = check_name(name)
        self.broker = check_public(broker)
        if len(secret) != 32:
            raise ConfigError(f"a key has 32 bytes, this one has {len(secret)}")
        self._secret = secret

    def __repr__(self) -> str:
        return f"RoleKey({self.role!r}, {self.name!r}, …)"

    @classmethod
    def new(cls, role: str, name: str, broker: str) -> RoleKey:
        """A fresh random key."""
        return cls(role, name, secrets.token_bytes(32), broker)

    @property
    def pair(self) -> KeyPair:
        """Its CURVE key pair."""
        return KeyPair.of(self._secret)

    @property
    def public(self) -> str:
        """Its public key, in hexadecimal."""
        return to_hex(self.pair.public)

    def save(self, path: Path) -> None:
        """Write a new file with mode 0600. An existing file is never overwritten.

        Raises:
            ConfigError: there is a file already, or it cannot be written.
        """
        fields = (self.role, self.name, self._secret.hex(), self.broker)
        write_private(path, f"{_MAGIC}{':'.join(fields)}\n")


def load(path: Path) -> ClusterKey | RoleKey:
    """Read a key file of either kind.

    Raises:
        ConfigError: the file is missing, readable by others, or not a key file.
    """
    text = read_private(path)
    if not text.startswith(_MAGIC):
        return ClusterKey.load(path)
    try:
        role, name, secret, broker = text.removeprefix(_MAGIC).split(":")
        return RoleKey(role, name, bytes.fromhex(secret), broker)
    except (ValueError, ConfigError):
        raise ConfigError(f"the key file {path} is damaged; copy it again") from None


def credentials(path: Path, part: str) -> Credentials:
    """What the key file at `path` lets a process of this part (``client``, ``worker``) connect with.

    Raises:
        ConfigError: the file cannot be used, or its key is for another role.
    """
    key = load(path)
    if isinstance(key, ClusterKey):
        return Credentials(key.pair(part), key.pair("broker").public)
    if (part == "worker") != (key.role == "worker"):
        needed = "a worker's" if part == "worker" else "a client's or an admin's"
        raise ConfigError(
            f"the key {key.name} in {path} is a {key.role}'s, and this takes {needed}; make one "
            f"with: manyhands keys new FILE --role {part}"
        )
    return Credentials(key.pair, to_z85(key.broker))


def to_hex(public: bytes) -> str:
    """A public key of ZeroMQ's form in hexadecimal."""
    from zmq.utils import z85  # noqa: PLC0415 - as in `cluster_key`

    return str(z85.decode(public).hex())


def to_z85(public: str) -> bytes:
    """A public key in hexadecimal in ZeroMQ's form."""
    from zmq.utils import z85  # noqa: PLC0415 - as in `cluster_key`

    return bytes(z85.encode(bytes.fromhex(public)))


def check_role(role: str) -> str:
    """`role`, if there is such a one; else ConfigError."""
    if role not in ROLES:
        raise ConfigError(f"{role!r} is no role; there are: {', '.join(ROLES)}")
    return role


def check_name(name: str) -> str:
    """`name`, if a key can be called so; else ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name[:80]!r} is no name for a key: up to {MAX_NAME_CHARS} letters, digits, . _ @ and -"
        )
    return name


def check_public(public: str) -> str:
    """`public`, if it is a public key in hexadecimal; else ConfigError."""
    if not _HEX32.fullmatch(public):
        raise ConfigError(
            f"{public[:80]!r} is no public key: 64 hexadecimal digits, as `manyhands keys show` prints"
        )
    return public
