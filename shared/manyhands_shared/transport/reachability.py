"""Why nothing answers at an address: what the system says when it is asked once more."""

from __future__ import annotations

import os
import socket

from manyhands_shared.transport import address as addresses


def silence(text: str, timeout: float) -> str:
    """Return the addresses in `text`, which commas part, each with the reason of its silence.

    Args:
        text: full addresses of a broker.
        timeout: seconds to wait for each connection.
    """
    found = [(address, reason_of_silence(address, timeout)) for address in text.split(",")]
    return "; ".join(f"{address} ({reason})" if reason else address for address, reason in found)


def reason_of_silence(address: str, timeout: float) -> str:
    """Return why no broker answers at `address`, as the end of a sentence; empty if that is unknown.

    Args:
        address: one full address of a broker.
        timeout: seconds to wait for the connection. Looking up a name may take longer.
    """
    host = addresses.host_of(address)
    if not host:
        return ""
    try:
        connection = socket.create_connection((host, int(address.rpartition(":")[2])), timeout)
    except socket.gaierror as error:
        return f"the name {host} is not known ({error.strerror})"
    except TimeoutError:
        return "the connection is not answered; a firewall may drop it"
    except ConnectionRefusedError:
        return "the connection is refused: nothing listens there"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    connection.close()
    return "something listens there, but it does not answer as a broker does"
