"""Only pages of this server ask it anything by script.

A browser names the origin of the page with each request that could change something, and says whether
page and server are of one site. What comes of another origin is refused. So no page of another site can
act, or read along, with the cookie or the address of one who may.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class SameOrigin:
    """ASGI middleware that answers other origins with 403. It is behind `AllowedHosts`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a refusal."""
        if scope["type"] == "http" and not _allowed(scope, Headers(scope=scope)):
            text = "this request comes from a page of another origin\n"
            await PlainTextResponse(text, 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _allowed(scope: Scope, headers: Headers) -> bool:
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None:
        return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
    if scope["method"] not in ("GET", "HEAD") and scope["path"].startswith("/api/"):
        return False
    site = headers.get("sec-fetch-site", "none")
    return site in ("none", "same-origin") or headers.get("sec-fetch-mode") == "navigate"
