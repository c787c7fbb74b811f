"""What happened in a run, for people to read."""

from __future__ import annotations

import re
from collections import deque


class Story:
    """Lines in the order of what happened: time, who, what. At most `limit`, the last ones."""

    def __init__(self, limit: int = 200_000) -> None:
        self._lines: deque[tuple[float, str, str]] = deque(maxlen=limit)

    def add(self, now: float, who: object, what: object) -> None:
        """One more line."""
        self._lines.append((now, str(who), _short(str(what))))

    def of_task(self, job: str, index: int) -> list[str]:
        """The lines that concern one task, and the falls and starts of parts between them."""
        name = re.compile(rf"\b{job}/{index}\b|job='{job}'[^)]*indices=\[([0-9]+, )*{index}[],]")
        return [
            _line(line)
            for line in self._lines
            if name.search(line[2])
            or re.match(r"starts|dies|is killed|stops|fault|is healed", line[2])
        ]

    def __str__(self) -> str:
        return "\n".join(map(_line, self._lines))


def _line(line: tuple[float, str, str]) -> str:
    now, who, what = line
    return f"{now:11.6f}  {who:8} {what}"


def _short(text: str) -> str:
    """Without what no reader needs: keys, digests, failures in msgpack."""
    text = re.sub(
        r"b'\\x8[0-9a-f]\\xa4type[^]]*?\\xa5story\\x9[0-9a-f][^]]*?'(?=[,\]])", "b'…'", text
    )
    text = re.sub(
        r"(info|digest|function|token|session)=[^,)]*",
        r"\1=…",
        re.sub(r"beat_key=.*beat_interval", "beat_key=…, beat_interval", text),
    )
    return text if len(text) <= 1_000 else text[:1_000] + "…"
