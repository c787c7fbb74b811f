"""The cluster key: one secret file from which the broker's key pair, and others, are derived.

A cluster key is 32 random bytes in a file that only its owner may read. The CURVE key pairs of the
broker, of clients and of nodes are derived from it (BLAKE2b, keyed, with the part as the personal
string). So a holder of the file can act in any part. Keys for one person or machine and one role
are in `role_key`; whom a broker lets in besides is in `allow_list`.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from manyhands_shared.errors import ConfigError
from manyhands_shared.security.private_files import private

#: The parts of a cluster, each with a key pair of its own.
PARTS = ("broker", "client", "worker")
_MAGIC = "manyhands-key-v1:"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, Z85-encoded as ZeroMQ wants it."""

    public: bytes
    secret: bytes

    @classmethod
    def of(cls, secret: bytes) -> KeyPair:
        """The pair of a secret of 32 bytes."""
        import zmq  # noqa: PLC0415 - keys are rare, and reading a key file needs no sockets
        from zmq.utils import z85  # noqa: PLC0415

        encoded = z85.encode(secret)
        return cls(public=zmq.curve_public(encoded), secret=encoded)

    def __repr__(self) -> str:
        return f"KeyPair({self.public!r}, …)"


class ClusterKey:
    """The secret of one cluster. Its `repr` never shows it."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise ConfigError(f"a cluster key has 32 bytes, this one has {len(secret)}")
        self._secret = secret

    def __repr__(self) -> str:
        return "ClusterKey(…)"

    @classmethod
    def new(cls) -> ClusterKey:
        """A fresh random key."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def load(cls, path: Path) -> ClusterKey:
        """Read a key file.

        Raises:
            ConfigError: the file is missing, readable by others, or not a key file.
        """
        text = read_private(path)
        if not text.startswith(_MAGIC):
            raise ConfigError(f"{path} is not a manyhands key file")
        try:
            return cls(bytes.fromhex(text[len(_MAGIC) :]))
        except ValueError:
            raise ConfigError(f"the key file {path} is damaged; copy it again") from None

    def save(self, path: Path) -> None:
        """Write a new key file with mode 0600. An existing file is never overwritten.

        Raises:
            ConfigError: there is a file already, or it cannot be written.
        """
        write_private(path, f"{_MAGIC}{self._secret.hex()}\n")

    def secret_for(self, purpose: bytes) -> bytes:
        """Return 32 bytes that only who has this key can know, for one purpose."""
        return hashlib.blake2b(b"secret " + purpose, key=self._secret, digest_size=32).digest()

    def pair(self, part: str) -> KeyPair:
        """The CURVE key pair of a part (one of `PARTS`)."""
        if part not in PARTS:
            raise ValueError(f"no such part: {part!r}")
        return KeyPair.of(
            hashlib.blake2b(
                b"curve", key=self._secret, digest_size=32, person=part.encode()
            ).digest()
        )


#: Of a file that is read; a key has a few hundred.
_MOST_BYTES = 1 << 16


def read_private(path: Path) -> str:
    """The text of a file that only its owner can read.

    Raises:
        ConfigError: it is missing, readable by others, or cannot be read.
    """
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES)
        text = data.decode("ascii").strip()
    except FileNotFoundError:
        raise ConfigError(
            f"no key file at {path}; make one with: manyhands keys new {path}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"cannot read the key file {path}: {why}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"others can read the key file {path}; run: chmod 600 {path}")
    return text


def write_private(path: Path, text: str) -> None:
    """Write a new file with mode 0600. An existing one is never overwritten.

    Raises:
        ConfigError: there is a file already, or it cannot be written.
    """
    # Linked into place whole: a reader sees no file or the finished one. The draft's name is
    # random because process ids come again, in containers always.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with private():
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
            os.link(draft, path)
        finally:
            draft.unlink()
    except OSError as error:
        if isinstance(error, FileExistsError) and path.is_file():
            raise ConfigError(f"{path} exists already and is kept; name another file") from None
        why = error.strerror if path.parent.is_dir() else f"{path.parent} is no folder"
        raise ConfigError(f"cannot write the key file {path}: {why}; name another file") from None
