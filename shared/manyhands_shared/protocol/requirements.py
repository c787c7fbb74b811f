"""What a job wants installed for its tasks: the lines of a requirements file, checked.

A line is a requirement, as ``numpy==2.1``, or one of a few options that say where packages come from.
Both installers, pip and uv, read such lines. Other options are refused, for they name files of the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from manyhands_shared.errors import ProtocolError

#: Lines of one job, and characters of each.
MAX_LINES, MAX_CHARS = 256, 500
INDEX_URL, EXTRA_INDEX_URL, FIND_LINKS = "--index-url", "--extra-index-url", "--find-links"
NO_INDEX = "--no-index"
_WITH_VALUE = frozenset({INDEX_URL, EXTRA_INDEX_URL, FIND_LINKS})


def normal(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the same requirements in one form: sorted, each once; options behind, in their order."""
    texts = list(dict.fromkeys(" ".join(line.split()) for line in lines))
    options = [text for text in texts if text.startswith("-")]
    return (*sorted(text for text in texts if not text.startswith("-")), *options)


def check(lines: Sequence[str]) -> None:
    """Raise `ProtocolError` if these are no lines that an installer may be given; the text says why."""
    if len(lines) > MAX_LINES:
        raise ProtocolError(f"{len(lines)} requirements, {MAX_LINES} are allowed")
    for line in lines:
        if not line or len(line) > MAX_CHARS:
            raise ProtocolError(f"a requirement has 1 to {MAX_CHARS} characters, not {len(line)}")
        if not line.isprintable() or "\\" in line or line.startswith("#"):
            raise ProtocolError(f"{line!r:.120} is no requirement")
        option, _, value = line.partition(" ")
        if (
            option.startswith("-")
            and (option != NO_INDEX or value)
            and not _says_where(option, value)
        ):
            allowed = ", ".join(sorted({*_WITH_VALUE, NO_INDEX}))
            raise ProtocolError(f"{option!r:.80} is no option of requirements; there are {allowed}")


def digest(lines: Sequence[str]) -> bytes:
    """Return the name of these requirements; empty for none."""
    return blake2b("\n".join(lines).encode(), digest_size=16).digest() if lines else b""


def _says_where(option: str, value: str) -> bool:
    return option in _WITH_VALUE and bool(value) and " " not in value
