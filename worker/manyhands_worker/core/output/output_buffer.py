"""What tasks have printed, on its way to the broker."""

from __future__ import annotations

from collections import deque

from manyhands_shared.protocol.messages import Output

#: Characters kept while there is no link; the oldest are given up.
WAITING_CHARS = 4 << 20


class OutputBuffer:
    """Texts that wait for a link."""

    def __init__(self) -> None:
        self._waiting: deque[Output] = deque()
        self._chars = 0

    def add(self, output: Output) -> None:
        """A task has printed something."""
        self._waiting.append(output)
        self._chars += len(output.text)
        while self._chars > WAITING_CHARS:
            self._chars -= len(self._waiting.popleft().text)

    def take(self) -> list[Output]:
        """Everything that waits, to be sent now."""
        if not self._waiting:
            return []
        outputs = list(self._waiting)
        self._waiting.clear()
        self._chars = 0
        return outputs
