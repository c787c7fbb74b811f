"""The HTTP server: a process of its own, so that no request can slow the broker's loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from manyhands_broker.http.admission.access import Access
from manyhands_broker.http.inquiries import Inquiries
from manyhands_broker.http.snapshot import Snapshot
from manyhands_broker.service_process import ServiceProcess
from manyhands_shared.errors import ConfigError

_BACKLOG = 128
_PARENT_SECONDS = 5


class HttpServer(ServiceProcess):
    """Answers on a listening socket, from the figures of the snapshot and what the loop answers."""

    def __init__(
        self,
        sock: socket.socket,
        snapshot: Snapshot,
        inquiries: Inquiries,
        access: Access,
        hosts: list[str],
    ) -> None:
        super().__init__("manyhands-http")
        self._inquiries = inquiries
        self._access = access
        self._socket = sock
        self._snapshot = snapshot
        self._hosts = hosts

    def serve(self) -> None:
        """Answer requests until the broker is gone."""
        # Imported here: the broker's own process needs none of it.
        import uvicorn  # noqa: PLC0415

        from manyhands_broker.http.admission.connections import (  # noqa: PLC0415
            BACKLOG,
            HEAD_BYTES,
            Connection,
            Connections,
        )
        from manyhands_broker.http.app import application  # noqa: PLC0415
        from manyhands_broker.http.dashboard import Dashboard  # noqa: PLC0415

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                """SIGTERM and SIGKILL simply end this process: there is nothing to save."""
                yield

        async def leave_with_parent() -> None:
            server.should_exit = self.parent_is_gone()

        connections = Connections()
        dashboard = Dashboard(self._inquiries, self._access, connections, time.monotonic)
        server = Server(
            uvicorn.Config(
                application(self._snapshot, self._hosts, time.monotonic, dashboard.routes()),
                http=functools.partial(Connection, connections=connections),  # type: ignore[arg-type]
                h11_max_incomplete_event_size=HEAD_BYTES,
                headers=[("Connection", "close")],
                backlog=BACKLOG,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                callback_notify=leave_with_parent,
                timeout_notify=_PARENT_SECONDS,
            )
        )
        asyncio.run(server.serve(sockets=[self._socket]))


def listen(address: str) -> tuple[socket.socket, str]:
    """A listening socket at ``HOST:PORT`` (port 0 picks a free one), and its URL.

    Raises:
        ConfigError: it is no such address, or it cannot be had.
    """
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != address:
        raise ConfigError(f"{address!r} is no address for --http; write HOST:PORT")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"cannot listen for HTTP on {address}: {error}; choose another with --http"
        ) from None
    shown = f"[{host}]" if ":" in host else host
    return sock, f"http://{shown}:{sock.getsockname()[1]}"
