"""What is answered: ``/metrics``, ``/scale``, ``/livez``, ``/readyz``, and the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from manyhands_broker.http.admission.hosts import AllowedHosts
from manyhands_broker.http.admission.origins import SameOrigin
from manyhands_broker.http.metrics import Figures
from manyhands_broker.http.snapshot import Snapshot

#: Age of the snapshot, in seconds, from which on the loop counts as stuck. It writes one twice a second.
STUCK = 10.0
#: Version of the document that `/scale` answers.
DOCUMENT_VERSION = 1
#: Fields of the document that `/scale` answers, beside its version.
SCALE = ("queued", "running", "slots", "slots_wanted", "wanted", "nodes")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}


def application(
    snapshot: Snapshot,
    hosts: Iterable[str],
    clock: Callable[[], float],
    dashboard: Iterable[Route] = (),
) -> Starlette:
    """The ASGI application.

    Args:
        snapshot: Where the broker's loop writes its figures.
        hosts: Names, beside addresses and localhost, that requests may call this server by.
        clock: The monotonic clock of the pins.
        dashboard: Its routes.
    """

    def look() -> tuple[dict[str, Any], list[str]]:
        """The latest figures, and why the loop counts as stuck, if it does."""
        pinned = snapshot.read()
        if pinned is None:
            return {}, ["the broker's loop has not turned yet"]
        age = clock() - pinned.at
        if age > STUCK:
            return pinned.figures, [f"the broker's loop has not turned for {age:.0f} s"]
        return pinned.figures, []

    async def livez(_: Request) -> Response:
        return _verdict(look()[1])

    async def readyz(_: Request) -> Response:
        figures, stuck = look()
        return _verdict([*stuck, *figures.get("problems", [])])

    async def scale(_: Request) -> Response:
        figures, stuck = look()
        if stuck:
            return _verdict(stuck)
        document = {"version": DOCUMENT_VERSION, **{name: figures[name] for name in SCALE}}
        return JSONResponse(document, headers=_HEADERS)

    async def metrics(request: Request) -> Response:
        figures, stuck = look()
        registry = CollectorRegistry()
        registry.register(Figures(figures, not stuck))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type, headers=_HEADERS)

    endpoints = {"/livez": livez, "/readyz": readyz, "/scale": scale, "/metrics": metrics}
    return Starlette(
        routes=[*(Route(path, endpoint) for path, endpoint in endpoints.items()), *dashboard],
        middleware=[Middleware(AllowedHosts, names=list(hosts)), Middleware(SameOrigin)],
    )


def _verdict(problems: list[str]) -> Response:
    text = "".join(f"{problem}\n" for problem in problems) or "ok\n"
    return PlainTextResponse(text, 503 if problems else 200, headers=_HEADERS)
