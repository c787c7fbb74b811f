"""The allow-list: the public keys that a broker lets in besides those of its own cluster key.

A text file, one key a line: ``PUBLIC ROLE NAME [PRIORITY]``; lines that begin with ``#`` are for
people. It is replaced whole, so a reader sees the old list or the new one. A key that is not on it is
refused, so taking a line out revokes that key.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from manyhands_shared import small_file
from manyhands_shared.errors import ConfigError
from manyhands_shared.security.private_files import private
from manyhands_shared.security.role_key import check_name, check_public, check_role
from manyhands_shared.transport.peer_credentials import is_trusted

_HEADER = "# public keys that the broker lets in; changed with: manyhands keys allow, revoke\n"
#: A key has a hundred.
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Allowed:
    """A key that is let in. `public` is in hexadecimal.

    `priority` is the highest that a client's jobs have among those of others.
    """

    public: str
    role: str
    name: str
    priority: int = 0


def place(key_file: Path) -> Path:
    """Where the allow-list of the broker with this cluster key is, unless it is told otherwise."""
    return key_file.with_name(f"{key_file.name}.allowed")


def read(path: Path, *, to_admit: bool = False) -> tuple[Allowed, ...]:
    """The keys on the list; none if there is no such file.

    Args:
        path: of the list.
        to_admit: whether this process lets the keys in. Root may look after another user's list, but
            lets in none of the keys that user has put there.

    Raises:
        ConfigError: others own the file or can write it, or a line of it cannot be read.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            lines = small_file.rest(file.fileno(), _MOST_BYTES).decode("ascii").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read the allow-list {path}: {why}") from None
    if not is_trusted(found.st_uid) and (to_admit or os.geteuid() != 0):
        raise ConfigError(
            f"the allow-list {path} is user {found.st_uid}'s, who could let anybody in; it must be this "
            "user's or root's"
        )
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise ConfigError(f"others can write the allow-list {path}; run: chmod 600 {path}")
    keys: dict[str, Allowed] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            public, role, name, *priority = line.split()
            [top] = map(int, priority or ["0"])
            entry = Allowed(check_public(public), check_role(role), check_name(name), top)
        except ValueError:
            raise ConfigError(
                f"line {number} of the allow-list {path} is not: PUBLIC ROLE NAME [PRIORITY]"
            ) from None
        except ConfigError as error:
            raise ConfigError(f"line {number} of the allow-list {path}: {error}") from None
        if public in keys:
            raise ConfigError(f"line {number} of the allow-list {path} repeats a key")
        keys[public] = entry
    return tuple(keys.values())


def allow(path: Path, key: Allowed) -> None:
    """Put a key on the list; again, with another role or name, changes those.

    Raises:
        ConfigError: another key has this name, or the list cannot be read or written.
    """
    with _locked(path):
        keys = read(path)
        if any(other.name == key.name and other.public != key.public for other in keys):
            raise ConfigError(
                f"another key is called {key.name}; revoke that first, or choose another --name"
            )
        _write(path, (*(other for other in keys if other.public != key.public), key))


def revoke(path: Path, wanted: str) -> Allowed:
    """Take the key with this name or public key off the list, and return it.

    Raises:
        ConfigError: it is not on the list, or the list cannot be read or written.
    """
    with _locked(path):
        keys = read(path)
        found = [key for key in keys if wanted in (key.public, key.name)]
        if not found:
            raise ConfigError(
                f"no key {wanted!r} on the allow-list {path}; see: manyhands keys list"
            )
        _write(path, tuple(key for key in keys if key is not found[0]))
    return found[0]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time, so that none overwrites what another has just added."""
    try:
        with private():
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"cannot write the allow-list {path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, keys: tuple[Allowed, ...]) -> None:
    text = _HEADER + "".join(map(_line, keys))
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                _keep_readers(path, descriptor)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write the allow-list {path}: {error.strerror}") from None


def _line(key: Allowed) -> str:
    priority = f" {key.priority}" if key.priority else ""
    return f"{key.public} {key.role} {key.name}{priority}\n"


def _keep_readers(path: Path, descriptor: int) -> None:
    """Let those read the new list who could read the one that it replaces.

    A broker of another user may have to, and public keys are no secret.
    """
    with contextlib.suppress(FileNotFoundError):
        before = path.stat()
        if os.geteuid() == 0:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, 0o600 | (before.st_mode & 0o044))
