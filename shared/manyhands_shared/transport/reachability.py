"""Why nothing answers at an address: what the system says when it is asked once more."""

from __future__ import annotations

import os
import socket
import threading
import time

from manyhands_shared.errors import ConfigError
from manyhands_shared.processes.thread_start import start
from manyhands_shared.transport import address as addresses

_LISTENS = "something listens there, but it does not answer as a broker does"
_REFUSED = "the connection is refused: nothing listens there"
_LATE = "looking up its name takes long"
#: What an attempt takes beside its connection.
_GRACE_SECONDS = 0.2


def silence(text: str, timeout: float) -> str:
    """Return the addresses in `text`, which commas part, each with the reason of its silence.

    Args:
        text: full addresses of a broker.
        timeout: seconds to wait for all connections together.
    """
    return _worded(_reasons(text, timeout))


def silence_of_all(text: str, timeout: float) -> str:
    """Return the same if it is certain that nothing listens at any of them; else an empty text."""
    found = _reasons(text, timeout)
    # A busy machine may need longer than that for an address at which all is well.
    uncertain = ("", _LISTENS, _LATE)
    return "" if any(reason in uncertain for _, reason in found) else _worded(found)


def reason_of_silence(address: str, timeout: float) -> str:
    """Return why no broker answers at `address`, as the end of a sentence; empty if that is unknown.

    Args:
        address: one full address of a broker.
        timeout: seconds to wait for the connection. Looking up a name may take longer.
    """
    host = addresses.host_of(address)
    try:
        connection = (
            socket.create_connection((host, int(address.rpartition(":")[2])), timeout)
            if host
            else _connect_here(address)
        )
    except ConfigError:
        return ""
    except socket.gaierror as error:
        return f"the name {host} is not known ({error.strerror})"
    except TimeoutError:
        return "the connection is not answered; a firewall may drop it"
    except ConnectionRefusedError:
        return _REFUSED
    except FileNotFoundError:
        return "there is no such socket"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    connection.close()
    return _LISTENS


def _connect_here(address: str) -> socket.socket:
    """Connect to a ``unix://`` address.

    Raises:
        ConfigError, OSError: it cannot be reached.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(addresses.unix_path(address))
    except BaseException:
        connection.close()
        raise
    return connection


def _reasons(text: str, timeout: float) -> list[tuple[str, str]]:
    """Ask for all addresses at the same time: a resolver may take as long as it likes."""
    listed = text.split(",")
    found = dict.fromkeys(listed, "")

    def ask(address: str) -> None:
        found[address] = reason_of_silence(address, timeout)

    threads = [
        threading.Thread(target=ask, args=(address,), name="manyhands-reach", daemon=True)
        for address in found
    ]
    deadline = time.monotonic() + timeout + _GRACE_SECONDS
    for thread in list(filter(start, threads)):
        thread.join(max(0.0, deadline - time.monotonic()))
    return [
        (address, found[address] or (_LATE if thread.is_alive() else ""))
        for address, thread in zip(found, threads, strict=True)
    ]


def _worded(found: list[tuple[str, str]]) -> str:
    return "; ".join(f"{address} ({reason})" if reason else address for address, reason in found)
