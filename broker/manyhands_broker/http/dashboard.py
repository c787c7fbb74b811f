"""The dashboard: its files, what it shows as server-sent events, the orders it gives, looks at tasks.

Everything here but the files is the broker's own: this process asks for views and passes orders on.
What a visitor may see and do, the broker decides by the visitor's key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from manyhands_broker.http import files
from manyhands_broker.http.admission.access import COOKIE, ENTER, STAY, Access
from manyhands_broker.http.admission.connections import Connections
from manyhands_broker.http.hub import Hub, Subscriber
from manyhands_broker.http.inquiries import Inquiries
from manyhands_broker.http.inspector import SECONDS, Inspector
from manyhands_shared.protocol.bounds import MAX_INDEX

#: What pages may look at, and what they may order.
VIEWS = ("overview", "jobs", "job", "nodes", "node", "events", "programs", "loadtests", "stream")
ORDERS = ("pause", "resume", "cancel", "retry", "drain", "forget")
LOOKS = ("stacks", "profile")
#: Views that one page may look at.
_MOST_VIEWS = 6
_ORDER_BYTES = 4_096
_NAME_CHARS = 200
#: Seconds of silence after which a comment shows that the link lives.
_ALIVE_SECONDS = 10.0


def _policy(inline_scripts: str = "") -> str:
    return (
        f"default-src 'none'; script-src 'self' {inline_scripts}; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


_HEADERS = {
    "Content-Security-Policy": _policy(),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_FRESH = {**_HEADERS, "Cache-Control": "no-store"}
_NO_TOKEN = (
    "this dashboard takes a token: open it with `manyhands dashboard --broker ADDRESS`, "
    "on a machine that has a key of the cluster\n"
)


class Dashboard:
    """The routes.

    Args:
        inquiries: the way to the broker's loop.
        access: who may do what here.
        connections: of the server, where event streams last.
        clock: the monotonic clock, in which tokens count.
    """

    def __init__(
        self,
        inquiries: Inquiries,
        access: Access,
        connections: Connections,
        clock: Callable[[], float],
    ) -> None:
        self._inquiries = inquiries
        self._access = access
        self._connections = connections
        self._clock = clock
        self._files = files.load()
        self._hub = Hub(self._ask)
        self._inspector = Inspector(self._ask)
        self._asking = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return what is answered, beside metrics and health."""
        return [
            Route("/", self._index),
            Route("/enter", self._enter),
            Route("/static/{path:path}", self._static),
            Route("/api/events", self._events),
            Route("/api/order", self._order, methods=["POST"]),
            Route("/api/look", self._look, methods=["POST"]),
        ]

    async def _ask(self, kind: str, what: str, arguments: dict[str, Any], key: str) -> Any:
        async with self._asking:
            return await asyncio.to_thread(self._inquiries.ask, kind, what, arguments, key)

    def _visitor(self, request: Request) -> str | None:
        return self._access.visitor(request.cookies.get(COOKIE, ""), self._clock())

    async def _index(self, request: Request) -> Response:
        return self._file(request, "index.html")

    async def _static(self, request: Request) -> Response:
        return self._file(request, request.path_params["path"])

    def _file(self, request: Request, path: str) -> Response:
        if self._visitor(request) is None:
            return _refused()
        file = self._files.get(path)
        if file is None:
            return PlainTextResponse("there is no such file\n", 404, headers=_FRESH)
        headers = {**_HEADERS, "Cache-Control": "no-cache", "ETag": file.etag}
        if file.inline_scripts:
            headers["Content-Security-Policy"] = _policy(file.inline_scripts)
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.body, media_type=file.media_type, headers=headers)

    async def _enter(self, request: Request) -> Response:
        """Exchange the token of the address for a cookie, which no script can read."""
        now = self._clock()
        key = self._access.read(ENTER, request.query_params.get("token", ""), now)
        if key is None:
            return _refused()
        answer = RedirectResponse("/", 303, headers=_FRESH)
        answer.set_cookie(
            COOKIE,
            self._access.make(STAY, key, now),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def _events(self, request: Request) -> Response:
        """Stream views: ``view=NAME`` or ``view=NAME:ARGUMENT``, several if wanted."""
        key = self._visitor(request)
        if key is None:
            return _refused()
        subscriber = Subscriber()
        wanted = [one.partition(":") for one in request.query_params.getlist("view")]
        if not 0 < len(wanted) <= _MOST_VIEWS or any(name not in VIEWS for name, _, _ in wanted):
            return PlainTextResponse("there is no such view\n", 404, headers=_FRESH)
        if not all(self._hub.subscribe(subscriber, name, of, key) for name, _, of in wanted):
            self._hub.leave(subscriber)
            return PlainTextResponse("too many views are looked at\n", 503, headers=_FRESH)
        self._connections.keep(request.scope["client"])
        headers = {**_FRESH, "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._stream(subscriber), media_type="text/event-stream", headers=headers
        )

    async def _stream(self, subscriber: Subscriber) -> AsyncIterator[str]:
        try:
            yield "retry: 1000\n\n"
            while True:
                try:
                    message = await asyncio.wait_for(subscriber.messages.get(), _ALIVE_SECONDS)
                except TimeoutError:
                    yield ": alive\n\n"
                else:
                    yield f"data: {message}\n\n"
        finally:
            self._hub.leave(subscriber)

    async def _order(self, request: Request) -> Response:
        """Pass an order on: a JSON object with `what`, and what it takes."""
        return await self._acted(request, ORDERS, self._ordered)

    async def _look(self, request: Request) -> Response:
        """Have nodes look at what tasks do. It takes as long as a profile lasts."""
        if self._visitor(request) is not None:
            self._connections.keep(request.scope["client"])
        return await self._acted(request, LOOKS, self._looked)

    async def _ordered(self, what: str, fields: dict[str, Any], key: str) -> Any:
        return await self._ask("order", what, fields, key)

    async def _looked(self, what: str, fields: dict[str, Any], key: str) -> Any:
        wrong = [name for name, value in fields.items() if not _may_be(name, value)]
        if wrong or not ("id" in fields or (what == "stacks" and "node" in fields)):
            raise LookupError(f"a look at {what} takes other fields: {', '.join(wrong) or 'an id'}")
        if what == "stacks":
            return await self._inspector.stacks(fields, key)
        return await self._inspector.profile(fields["id"], fields.get("seconds", 10.0), key)

    async def _acted(
        self,
        request: Request,
        known: Sequence[str],
        act: Callable[[str, dict[str, Any], str], Awaitable[Any]],
    ) -> Response:
        """Read what is wanted, do it, and answer as JSON, or with a line that says why not."""
        key = self._visitor(request)
        if key is None:
            return _refused()
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return PlainTextResponse("an order is JSON\n", 415, headers=_FRESH)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _ORDER_BYTES:
                return PlainTextResponse("an order is shorter\n", 413, headers=_FRESH)
        try:
            order = json.loads(body)
            what = order.pop("what")
        except (ValueError, TypeError, KeyError, AttributeError):
            return PlainTextResponse("an order is an object with `what`\n", 400, headers=_FRESH)
        if what not in known:
            return PlainTextResponse("there is no such order\n", 404, headers=_FRESH)
        try:
            data = await act(what, order, key)
        except LookupError as error:
            return PlainTextResponse(f"{error.args[0]}\n", 409, headers=_FRESH)
        except TimeoutError as error:
            return PlainTextResponse(f"{error}\n", 503, headers=_FRESH)
        body = json.dumps(data, default=bytes.hex).encode()
        return Response(body, media_type="application/json", headers=_FRESH)


def _may_be(name: str, value: object) -> bool:
    """Return whether a field of what nodes are to look at can be what it is."""
    if name in ("id", "node"):
        return isinstance(value, str) and len(value) <= _NAME_CHARS
    if name == "task":
        return type(value) is int and 0 <= value <= MAX_INDEX
    low, high = SECONDS
    if name != "seconds" or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return low <= value <= high


def _refused() -> Response:
    return PlainTextResponse(_NO_TOKEN, 401, headers=_FRESH)
