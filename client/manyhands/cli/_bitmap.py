"""A set of small numbers, a bit for each."""

from __future__ import annotations


class Bitmap:
    """A million numbers take 125 kB."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._count = 0

    def __contains__(self, number: int) -> bool:
        byte = number >> 3
        return byte < len(self._bits) and bool(self._bits[byte] >> (number & 7) & 1)

    def __len__(self) -> int:
        return self._count

    def set(self, number: int, *, on: bool) -> None:
        """Have a number in it, or not."""
        if on == (number in self):
            return
        byte = number >> 3
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits)))
        self._bits[byte] ^= 1 << (number & 7)
        self._count += 1 if on else -1
