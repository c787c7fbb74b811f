"""The files of the dashboard's pages: read once, and named by what is in them."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from typing import NamedTuple

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class PageFile(NamedTuple):
    """A file as it is sent."""

    body: bytes
    media_type: str
    etag: str
    #: Its inline scripts, as a content security policy names them: by their digests.
    inline_scripts: str


def load() -> dict[str, PageFile]:
    """Return all files, by their paths from the folder `page` on."""
    found: dict[str, PageFile] = {}
    folders = [("", resources.files("manyhands_broker.http") / "page")]
    while folders:
        path, folder = folders.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((f"{path}{entry.name}/", entry))
                continue
            body = entry.read_bytes()
            kind = _TYPES.get(f".{entry.name.rpartition('.')[2]}")
            if kind is not None:
                etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
                found[path + entry.name] = PageFile(body, kind, etag, _inline_scripts(body, kind))
    return found


def _inline_scripts(body: bytes, kind: str) -> str:
    if not kind.startswith("text/html"):
        return ""
    scripts = re.findall(rb"<script>(.*?)</script>", body, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
