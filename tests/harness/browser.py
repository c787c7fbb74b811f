"""A headless Chromium, driven over the DevTools protocol through a pair of pipes: no port, no driver."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on this machine")
#: Seconds that anything may take on a machine that is busy.
PATIENCE = 100.0
#: What is loading is broken off when an interface of the machine comes or goes. The page copes.
_NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"
#: The answer to a script whose page was left, or loaded again, before it ended.
_LEFT = ("Execution context was destroyed", "Inspected target navigated or closed")
_ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu"),
    *("--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--no-proxy-server"),
)


class PageLeftError(Exception):
    """The page was left, or loaded again, before a script ended in it."""


class Browser:
    """One tab. What the page logs as errors, and what it throws, is in `errors`."""

    def __init__(self, profile: str) -> None:
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        self._number = 0
        self._buffer = b""
        self.errors: list[str] = []
        #: Bytes that the tab has received since the start.
        self.received = 0
        # Chromium reads descriptor 3 and writes 4.
        command = 'exec 3<&"$0" 4>&"$1"; shift; exec "$@"'
        self._process = subprocess.Popen(
            [
                *("bash", "-c", command, str(to_browser), str(from_browser), CHROMIUM),
                *(*_ARGUMENTS, f"--user-data-dir={profile}"),
            ],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """End it."""
        os.close(self._out)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have the tab do something; return the result."""
        return self._ask(method, self._session, **parameters)

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        found = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def until(self, script: str, what: str = "") -> Any:
        """Wait until an expression is true in the page; return its value."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with suppress(PageLeftError):
                if value := self.evaluate(script):
                    return value
            self._take(0.05)
        raise AssertionError(f"never came: {what or script}")

    def open(self, url: str) -> None:
        """Go to a page, and wait until it shows what the broker told."""
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")
        self.until("document.getElementById('main')?.dataset.ready", f"data at {url}")

    def block(self, *urls: str) -> None:
        """Let requests for these fail, as a network does; `*` stands for anything. None ends it."""
        self.ask("Network.setBlockedURLs", urls=urls)

    def size(self, width: int, height: int, *, phone: bool = False, scale: float = 1) -> None:
        """Give the tab a size in CSS pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=phone,
        )

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """Write what the tab shows as a PNG."""
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(data["data"]))

    def _ask(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answers: list[dict[str, Any]] = []
        end = time.monotonic() + PATIENCE
        while not answers:
            left = end - time.monotonic()
            assert left > 0, f"no answer to {method}"
            self._take(left, lambda one: answers.append(one) if one.get("id") == number else None)
        [answer] = answers
        if answer.get("error", {}).get("message", "").startswith(_LEFT):
            raise PageLeftError(method)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _take(self, seconds: float, take: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Read what comes within this time, at least once if there is anything."""
        if not select.select([self._in], [], [], seconds)[0]:
            return
        data = os.read(self._in, 1 << 20)
        assert data, "the browser has ended"
        *lines, self._buffer = (self._buffer + data).split(b"\0")
        for line in lines:
            message = json.loads(line)
            self._note(message)
            if take is not None:
                take(message)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.errors.append(
                    str(details.get("exception", details).get("description", details))
                )
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "assert"):
                self.errors.append(str([one.get("value") for one in parameters["args"]]))
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                entry = parameters["entry"]
                if _NETWORK_CHANGED not in entry["text"]:
                    self.errors.append(f"{entry['text']} {entry.get('url', '')}")
            case "Network.dataReceived":
                self.received += parameters["encodedDataLength"] or parameters["dataLength"]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own, which goes with it."""
    with TemporaryDirectory(prefix="manyhands-browser-") as profile:
        running = Browser(profile)
        try:
            yield running
        finally:
            running.close()
