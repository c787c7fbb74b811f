"""Addresses of brokers: parsing them, and telling which of them only this machine can reach."""

from __future__ import annotations

import re
import sys
from urllib.parse import urlsplit

from manyhands_shared.errors import ConfigError

DEFAULT_PORT = 7711
#: Where a broker listens, and where it is looked for.
DEFAULT_BIND = f"tcp://127.0.0.1:{DEFAULT_PORT}"
#: What fits into the system's structure, everywhere.
_UNIX_PATH_BYTES = 100
#: Of each part of a host's name.
_LABEL_BYTES = 63
#: Of an address in a message.
_SHOWN = 200


def parse(address: str) -> str:
    """The address in full form: ``host`` and ``host:port`` become ``tcp://host:port``.

    Raises:
        ConfigError: it is no ``tcp://`` or ``unix://`` address.
    """
    text = address.strip()
    if "://" not in text:
        text = f"tcp://{text}"
    scheme, _, rest = text.partition("://")
    if scheme == "unix" and rest:
        unix_path(text)
        return text
    if scheme != "tcp" or not rest or re.search(r"[\s/?#@]", rest):
        raise ConfigError(f"{address!r} is not an address; write tcp://HOST:PORT")
    if rest.endswith(":*"):
        return text
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{address!r} has no valid port; write tcp://HOST:PORT") from None
    if not host:
        raise ConfigError(f"{address!r} has no host; write tcp://HOST:PORT")
    if not host.isascii():
        text = f"tcp://{_ascii(host, address)}" + ("" if port is None else f":{port}")
    elif max(map(len, host.split("."))) > _LABEL_BYTES:
        raise _no_host_name(address)
    return text if port is not None else f"{text}:{DEFAULT_PORT}"


def _ascii(host: str, address: str) -> str:
    """A name of a host with other letters, as the system looks it up."""
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise _no_host_name(address) from None


def _no_host_name(address: str) -> ConfigError:
    return ConfigError(f"{address[:_SHOWN]!r} has no valid name of a host; write tcp://HOST:PORT")


def parse_all(text: str) -> list[str]:
    """The addresses of a comma-separated list, each in full form, without repetitions.

    Raises:
        ConfigError: there is none, or one of them is no address.
    """
    parts = [part for part in text.split(",") if part.strip()]
    if not parts:
        raise ConfigError(f"{text!r} is not an address; write tcp://HOST:PORT")
    return list(dict.fromkeys(map(parse, parts)))


def is_unix(address: str) -> bool:
    """Whether a full address is a Unix socket's."""
    return address.startswith("unix://")


def foreign(address: str) -> str:
    """What to say where another user listens."""
    return f"what listens at {address} is another user's, and is not trusted"


def unix_path(address: str) -> str:
    """What the system calls a ``unix://`` address: a file, or with ``@`` a name without one.

    Raises:
        ConfigError: this system has no such sockets, or not of such a name.
    """
    path = address.removeprefix("unix://")
    if path.startswith("@"):
        if sys.platform != "linux":
            raise ConfigError(f"{address} needs Linux; write unix:///PATH or tcp://HOST:PORT")
        path = "\0" + path[1:]
    if len(path.encode()) > _UNIX_PATH_BYTES:
        raise ConfigError(f"{address} is longer than {_UNIX_PATH_BYTES} bytes; choose another path")
    return path


def host_of(address: str) -> str:
    """The host part of a full address, without IPv6 brackets; empty for ``unix://``."""
    if not address.startswith("tcp://"):
        return ""
    return address.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def is_local(address: str) -> bool:
    """Whether only this machine can reach what is bound at `address`."""
    import ipaddress  # noqa: PLC0415 - 5 ms that a node and a client need not pay

    host = host_of(parse(address))
    if is_unix(address) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
