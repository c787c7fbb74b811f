"""Text of other people on its way to a terminal or a log: nothing in it is a command there.

Names, printed lines and errors come from whatever client or node sent them. A terminal obeys control
characters (ESC, the C1 set, OSC 52 writes its clipboard), and shows text in another order behind
bidirectional ones. A line feed in a name forges a line of a log.
"""

from __future__ import annotations

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
#: What a text of several lines keeps.
LAYOUT = "\n\t"


def printable(text: str, *, keep: str = "") -> str:
    """Replace each character that is not to be seen, but those in `keep`.

    Control and format characters go, lone surrogates and separators but the space as well.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _REPLACEMENT for char in text)


def amount(count: int, thing: str, things: str = "") -> str:
    """Return a number with what it is of: ``1 task``, ``2,000 tasks``. `things`: a plural without s."""
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"
