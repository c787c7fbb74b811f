"""Lines of a file or pipe as they come, in memory that does not grow with it."""

from __future__ import annotations

import itertools
import os
import select
import stat
from collections.abc import Iterator
from typing import Self

from manyhands.cli._user_files import is_null
from manyhands_shared.errors import ConfigError

_CHUNK = 64 << 10
_STDIN = "<stdin>"
_BOM = b"\xef\xbb\xbf"
#: A line beyond this is none: more than any task takes.
MOST_LINE = 1 << 30


def is_same_file(source: str, other: str | int) -> bool:
    """Whether an input, or stdin if that is ``-``, is another file by whatever name; not for devices.

    `other` is a name or a descriptor.
    """
    try:
        status = os.fstat(0) if source == "-" else os.stat(source)  # noqa: PTH116 - beside that
        return stat.S_ISREG(status.st_mode) and os.path.samestat(status, os.stat(other))  # noqa: PTH116
    except (OSError, ValueError):
        return False


def check_streams(source: str) -> None:
    """See that what this process prints does not go into the input: there would be no end to it.

    Raises:
        ConfigError: it does, as with ``< x >> x``.
    """
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if is_same_file(source, descriptor):
            raise ConfigError(f"{name} goes to the input; write it to another file")


def _is_endless(fd: int) -> bool:
    """Whether a descriptor may have no end, as `/dev/zero`; a terminal has one, as typed."""
    status = os.fstat(fd)
    is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    return is_device and not is_null(status) and not os.isatty(fd)


class LineReader:
    """Read lines without their ends. Another thread may stop it, also while it waits for a pipe.

    Args:
        path: the file; ``-`` is stdin.
        end: what ends a line.

    Raises:
        ConfigError: it cannot be opened, or is a device.
    """

    def __init__(self, path: str, end: bytes = b"\n") -> None:
        self.name = _STDIN if path == "-" else path
        self._end = end
        self._wake_fd, self._wake_in = os.pipe()
        self._stopped = False
        try:
            self._fd = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            os.close(self._wake_fd)
            os.close(self._wake_in)
            shown = f"{self.name:.200}" or "a file without a name"
            raise ConfigError(f"cannot read {shown}: {error.strerror}") from None
        if _is_endless(self._fd):
            self.close()
            raise ConfigError(f"cannot read {self.name}: it is a device; name a file or a pipe")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> None:
        """End the lines here; from any thread."""
        self._stopped = True
        os.write(self._wake_in, b"\0")

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in (self._fd, self._wake_fd, self._wake_in):
            os.close(fd)

    @property
    def is_file(self) -> bool:
        """Whether another reader can read it from its beginning; stdin is read where it stands."""
        return self.name != _STDIN and stat.S_ISREG(os.fstat(self._fd).st_mode)

    def chunks(self) -> Iterator[bytes]:
        """What can be read, piece by piece.

        Raises:
            ConfigError: the system cannot read it.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake_fd, select.POLLIN)
        try:
            while not self._stopped:
                poll.poll()
                if self._stopped or not (data := os.read(self._fd, _CHUNK)):
                    return
                yield data
        except OSError as error:
            raise ConfigError(f"cannot read {self.name}: {error.strerror}") from None

    def lines(self) -> Iterator[bytes]:
        """The lines, without a mark of UTF-8 at the very beginning.

        Raises:
            ConfigError: the system cannot read them, or one has no end.
        """
        return itertools.chain.from_iterable(self.batches())

    def batches(self) -> Iterator[list[bytes]]:
        """The same, as many at a time as one look at the input gives."""
        rest: list[bytes] = []
        size = 0
        first = True
        for data in self.chunks():
            if self._end not in data:
                rest.append(data)
                size += len(data)
                if size > MOST_LINE:
                    raise ConfigError(f"{self.name} has a line of more than {MOST_LINE} bytes")
                continue
            whole, _, tail = data.rpartition(self._end)
            found = b"".join((*rest, whole)).split(self._end)
            if first:
                found[0] = found[0].removeprefix(_BOM)
                first = False
            rest, size = [tail], len(tail)
            yield found
        last = b"".join(rest)
        if last and not self._stopped:
            yield [last.removeprefix(_BOM) if first else last]
