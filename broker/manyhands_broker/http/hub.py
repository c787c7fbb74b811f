"""Views that pages look at, each fetched once however many pages there are, and sent on as patches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from manyhands_broker.http.patches import difference

#: Asks the broker: kind, view, arguments, key of who looks.
Ask = Callable[[str, str, dict[str, Any], str], Awaitable[Any]]
#: Seconds between two looks at a view.
INTERVALS = {"stream": 0.5, "nodes": 2.0, "events": 2.0, "programs": 2.0, "loadtests": 5.0}
_INTERVAL = 1.0
#: Views that are looked at at the same time, by all pages. Messages that may wait for one page.
MOST_FEEDS = 64
_WAITING = 32

FeedKey = tuple[str, str, str]


class Subscriber:
    """One page: what waits to be sent to it."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[str] = asyncio.Queue(_WAITING)
        #: Feeds whose state the page has, so that a patch will do.
        self._follows: set[FeedKey] = set()

    def offer(self, key: FeedKey, whole: Callable[[], str], patch: str) -> None:
        """Send a patch to a page that follows, else the whole; nothing while too much waits."""
        if self.messages.full():
            self._follows.discard(key)
        elif key in self._follows:
            if patch:
                self.messages.put_nowait(patch)
        else:
            self._follows.add(key)
            self.messages.put_nowait(whole())


class Hub:
    """All feeds that some page looks at."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._feeds: dict[FeedKey, _Feed] = {}

    def subscribe(self, subscriber: Subscriber, view: str, argument: str, key: str) -> bool:
        """Have a page follow a view; return whether there is room for it."""
        feed_key = (view, argument, key)
        feed = self._feeds.get(feed_key)
        if feed is None:
            if len(self._feeds) >= MOST_FEEDS:
                return False
            feed = self._feeds[feed_key] = _Feed(feed_key, self._ask, self._over)
        feed.add(subscriber)
        return True

    def leave(self, subscriber: Subscriber) -> None:
        """Send nothing more to a page."""
        for feed in list(self._feeds.values()):
            feed.subscribers.discard(subscriber)

    def _over(self, key: FeedKey) -> None:
        self._feeds.pop(key, None)


class _Feed:
    """One view, fetched as long as pages look at it."""

    def __init__(self, key: FeedKey, ask: Ask, over: Callable[[FeedKey], None]) -> None:
        self._key = key
        self._ask = ask
        self._over = over
        self.subscribers: set[Subscriber] = set()
        self._data: dict[str, Any] = {}
        self._seq = 0
        self._task = asyncio.create_task(self._run())

    def add(self, subscriber: Subscriber) -> None:
        """Have a page follow; what is known already goes to it at once."""
        self.subscribers.add(subscriber)
        if self._data:
            subscriber.offer(self._key, self._whole, "")

    async def _run(self) -> None:
        view, argument, key = self._key
        arguments: dict[str, Any] = {"id": argument, "name": argument} if argument else {}
        try:
            while self.subscribers:
                if view == "stream":
                    arguments["seq"] = self._seq
                try:
                    fresh = await self._ask("view", view, arguments, key)
                except (LookupError, TimeoutError) as error:
                    fresh = {"error": str(error.args[0])}
                self._publish(fresh)
                await asyncio.sleep(INTERVALS.get(view, _INTERVAL))
        finally:
            self._over(self._key)

    def _publish(self, fresh: dict[str, Any]) -> None:
        if "seq" in fresh:
            # Runs are no state: each goes out once, and a new page begins with the latest.
            self._seq = fresh["seq"]
            known = self._data
            changed = {name: value for name, value in fresh.items() if known.get(name) != value}
            if "running" in changed:
                changed["running"] = difference(known.get("running", {}), fresh["running"])
            patch = self._message("runs", {**changed, "runs": fresh["runs"]})
            self._data = {**fresh, "runs": [*self._data.get("runs", ()), *fresh["runs"]][-1_000:]}
        else:
            changes = difference(self._data, fresh)
            patch = self._message("patch", changes) if changes else ""
            self._data = fresh
        for subscriber in self.subscribers:
            subscriber.offer(self._key, self._whole, patch)

    def _whole(self) -> str:
        return self._message("whole", self._data)

    def _message(self, kind: str, data: Any) -> str:
        view, argument, _ = self._key
        return json.dumps(
            {"view": view, "of": argument, kind: data},
            ensure_ascii=False,
            separators=(",", ":"),
            default=bytes.hex,
        )
