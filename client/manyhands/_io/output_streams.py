"""Writing to `sys.stdout` and `sys.stderr` as they are now, and whether that can be done at once."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from typing import IO

OUT, ERROR = 1, 2
#: What a terminal that can be written to takes without blocking.
CHUNK_CHARS = 1_024
#: The program may have kept back so much of its own, which goes out first.
_KEPT_BYTES = 16 << 10
_GET_PIPE_SIZE, _BYTES_PER_CHAR = 1032, 4  # F_GETPIPE_SZ of Linux


def write(stream: int, text: str) -> None:
    """Write to what is `sys.stdout` or `sys.stderr` now."""
    file = _file(stream)
    if file is None:
        return
    try:
        try:
            file.write(text)
        except UnicodeEncodeError:
            encoding = getattr(file, "encoding", None) or "ascii"
            file.write(text.encode(encoding, "backslashreplace").decode(encoding))
        file.flush()
    except Exception:  # noqa: BLE001 - the program's own object: it loses what is printed, as of its own
        return


def write_at_once(stream: int, text: str) -> str:
    """Write as much as the stream takes without blocking; return the rest."""
    file = _file(stream)
    while text:
        size = _takes(file, len(text))
        if not size:
            return text
        write(stream, text[:size])
        text = text[size:]
    return ""


def _file(stream: int) -> IO[str] | None:
    return sys.stdout if stream == OUT else sys.stderr


def _takes(file: IO[str] | None, size: int) -> int:
    """Return how many of `size` characters can be written now without blocking."""
    if file is None or type(file) is io.StringIO or _is_notebooks(file):
        return size
    if not isinstance(file, io.TextIOWrapper):
        return 0  # an object of the program's own, which may do anything
    try:
        number = file.fileno()
    except (OSError, ValueError):
        return size  # it is in memory, or closed
    try:
        kind = os.fstat(number).st_mode
        if stat.S_ISREG(kind):
            return size
        if stat.S_ISFIFO(kind):
            return min(size, max(0, _room(number) - _KEPT_BYTES) // _BYTES_PER_CHAR)
        if stat.S_ISCHR(kind) and not os.isatty(number):
            return size
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        return min(size, CHUNK_CHARS) if poll.poll(0) else 0
    except OSError:
        return 0


def _is_notebooks(file: object) -> bool:
    """Whether it is the stream of a notebook's kernel, which has a thread of its own."""
    return type(file).__module__.partition(".")[0] == "ipykernel"


def _room(pipe: int) -> int:
    """Return how many bytes a pipe takes without blocking; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    import fcntl  # noqa: PLC0415 - not on every system
    import termios  # noqa: PLC0415 - as said above

    filled = int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
    return fcntl.fcntl(pipe, _GET_PIPE_SIZE) - filled
