"""Where the inputs of tasks come from: ``:::``, ``::::``, ``--input``, ``--array``, ``--pipe``."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from manyhands.cli._reader import MOST_LINE, LineReader
from manyhands_shared.errors import ConfigError

_MARK = re.compile(r"(:::|::::)(\+?)")
_RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
#: Tasks of one array.
_MOST = 1_000_000_000

Inputs = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One task: its number from 1, its name in file names, its inputs, its standard input."""

    number: int
    task: str
    inputs: Inputs = ()
    data: bytes | None = None


def split(words: Sequence[str]) -> tuple[list[str], list[list[Iterable[str]]], list[str]]:
    """A command, the sources behind it, and the files among these.

    The sources are in groups, in which those are that ``+`` links.

    Raises:
        ConfigError: a source that cannot be read or names no file, or a link to nothing.
    """
    marks = [place for place, word in enumerate(words) if _MARK.fullmatch(word)]
    command = list(words[: marks[0]] if marks else words)
    groups: list[list[Iterable[str]]] = []
    files: list[str] = []
    for begin, end in itertools.pairwise([*marks, len(words)]):
        match = _MARK.fullmatch(words[begin])
        assert match is not None
        given = words[begin + 1 : end]
        sources: list[Iterable[str]] = [given]
        if match[1] == "::::":
            if not given:
                raise ConfigError(
                    f"{words[begin]} names no file; put the files of inputs behind it"
                )
            sources = [_file(path) for path in given]
            files += given
        if match[2] and not groups:
            raise ConfigError(f"{words[begin]} links to a source before it, and there is none")
        if match[2]:
            groups[-1] += sources
        else:
            groups += [[source] for source in sources]
    return command, groups, files


def combined(groups: Sequence[Sequence[Iterable[str]]]) -> Iterator[Inputs]:
    """Every combination, the last group varying fastest. The first is read as it comes."""
    first, *others = [zip(*sources, strict=False) for sources in groups]
    rest = [list(group) for group in others]
    for head in first:
        for tail in itertools.product(*rest):
            yield (*head, *itertools.chain.from_iterable(tail))


def array(text: str) -> Iterator[str]:
    """The numbers of ``1-1000``, ``0-99:10`` or ``1,3,7-9``.

    Raises:
        ConfigError: it is none of these, or has a number twice: both tasks would write the same files.
    """
    ranges: list[range] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last, step = (
            (int(number) if number else None for number in match.groups()) if match else (None,) * 3
        )
        if first is None or step == 0 or (last is not None and last < first):
            raise ConfigError(
                f"--array {text!r:.200} is not of the form FIRST-LAST, FIRST-LAST:STEP, or such with "
                "commas"
            )
        ranges.append(range(first, (first if last is None else last) + 1, step or 1))
    # Not `len`, which overflows.
    if sum(-(-(one.stop - one.start) // one.step) for one in ranges) > _MOST:
        raise ConfigError(
            f"--array {text!r:.200} has more than {_MOST:,} tasks; submit it in parts"
        )
    twice = _in_two(ranges)
    if twice is not None:
        raise ConfigError(
            f"--array {text!r:.200} has {twice} more than once; give each number once"
        )
    return map(str, itertools.chain.from_iterable(ranges))


def _in_two(ranges: Iterable[range]) -> int | None:
    """A number that is in two of these ranges, if there is any; none of them is made a list."""
    open_ends: list[range] = []
    for one in sorted(ranges, key=lambda known: known.start):
        # Ranges that end before this one begins share nothing with it or those behind it.
        open_ends = [other for other in open_ends if other[-1] >= one.start]
        for other in open_ends:
            shared = _first_shared(other, one)
            if shared is not None:
                return shared
        open_ends.append(one)
    return None


def _first_shared(one: range, other: range) -> int | None:
    """The first number that is in both ranges; `other` begins no earlier than `one`."""
    divisor = math.gcd(one.step, other.step)
    steps, rest = divmod(other.start - one.start, divisor)
    if rest:
        return None
    period = other.step // divisor
    shared = one.start + one.step * (steps * pow(one.step // divisor, -1, period) % period)
    if shared < other.start:
        again = one.step * period
        shared += -((shared - other.start) // again) * again
    return shared if shared <= min(one[-1], other[-1]) else None


def lines(reader: LineReader) -> Iterator[str]:
    """The lines of an input. What is no UTF-8 in them goes to the program as it is.

    Raises:
        ConfigError: one has a zero byte, which no argument can have.
    """
    for number, line in enumerate(reader.lines(), 1):
        if b"\0" in line:
            raise ConfigError(
                f"line {number} of {reader.name} has a zero byte, and no argument can; if zero bytes "
                "end the inputs, say --null --input FILE"
            )
        yield line.decode("utf-8", "surrogateescape")


def blocks(reader: LineReader, size: int, count: int) -> Iterator[bytes]:
    """The input cut into blocks of whole lines: of `count` lines, or of about `size` bytes."""
    if count:
        yield from _counted(reader, count)
        return
    rest = bytearray()
    for data in reader.chunks():
        rest += data
        while len(rest) >= size and (end := rest.rfind(b"\n", 0, size) + 1 or rest.find(b"\n") + 1):
            yield bytes(rest[:end])
            del rest[:end]
        _check_block(rest, reader)
    if rest:
        yield bytes(rest)


def _counted(reader: LineReader, count: int) -> Iterator[bytes]:
    """The input, as it is, cut behind each `count` lines."""
    rest, left = bytearray(), count
    for data in reader.chunks():
        begin = end = 0
        while end := data.find(b"\n", end) + 1:
            left -= 1
            if not left:
                yield bytes(rest) + data[begin:end]
                rest.clear()
                begin, left = end, count
        rest += data[begin:]
        _check_block(rest, reader)
    if rest:
        yield bytes(rest)


def _check_block(block: bytearray, reader: LineReader) -> None:
    if len(block) > MOST_LINE:
        raise ConfigError(f"{reader.name} has a block of more than {MOST_LINE} bytes")


def numbered(inputs: Iterable[Inputs], *, is_array: bool = False) -> Iterator[Item]:
    """Tasks in order; those of an array are named by their number in it."""
    for number, given in enumerate(inputs, 1):
        yield Item(number, given[0] if is_array else str(number), given)


def _file(path: str) -> Iterator[str]:
    # Opened now, so that a file that is missing is told of before any work.
    reader = LineReader(path)

    def read() -> Iterator[str]:
        with reader:
            yield from lines(reader)

    return read()
