"""Lines in and JSON lines out, as `map`, `submit` and `results` read and write them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from manyhands.cli import _output, _user_files
from manyhands.cli._bitmap import Bitmap
from manyhands.cli._reader import LineReader, check_streams, is_same_file
from manyhands_shared.errors import ConfigError

#: Positional and keyword arguments of one call.
Call = tuple[tuple[Any, ...], dict[str, Any]]
#: An index beyond it is none of an item's.
_MOST = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """How a line becomes a call."""

    #: Arrays are spread over positional, objects over keyword arguments.
    star: bool = False
    #: A line is a text, and no JSON.
    text: bool = False
    #: Arguments of every call, behind the item.
    rest: tuple[Any, ...] = ()

    def call(self, item: Any) -> Call:
        """The call for one item.

        Raises:
            ValueError: it cannot be spread.
        """
        if not self.star:
            return (item, *self.rest), {}
        if isinstance(item, list):
            return (*item, *self.rest), {}
        if isinstance(item, dict):
            return self.rest, item
        raise ValueError("neither an array nor an object, and --star spreads those")

    def has_nan(self, line: bytes) -> bool:
        """Whether an item of this line has NaN or an infinity, which 1e400 is, too."""
        if self.text:
            return False
        try:
            json.dumps(json.loads(line), allow_nan=False)
        except ValueError:
            return True
        except RecursionError:
            pass  # it is just not too deep to be read
        return False


@dataclass(frozen=True, slots=True)
class Item:
    """One line that is an item: its index from 0, what it was read from, its call."""

    index: int
    line: bytes
    call: Call


def read_items(reader: LineReader, reading: Reading) -> Iterator[list[Item]]:
    """One item for each line, as many at a time as come; blank lines count only as texts.

    Raises:
        ConfigError: a line is not JSON or UTF-8, or cannot be spread; it names the line. The items
            before it have come, but for those that are read together with the very first.
    """
    index, number = itertools.count(), itertools.count(1)
    for place, batch in enumerate(reader.batches()):
        found: list[Item] = []
        try:
            for line in batch:
                item = _item(line, next(number), index, reader.name, reading)
                if item is not None:
                    found.append(item)
        except ConfigError:
            if place:
                yield found
            raise
        yield found


def _item(
    line: bytes, number: int, index: Iterator[int], name: str, reading: Reading
) -> Item | None:
    if not (reading.text or line.strip()):
        return None
    try:
        text = line.decode()
        call = reading.call(text if reading.text else json.loads(text))
    except UnicodeDecodeError as error:
        raise ConfigError(f"line {number} of {name} is not UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"line {number} of {name}: {error}; write one JSON value a line, or say --lines for text"
        ) from None
    return Item(next(index), line, call)


def check_output(sink: IO[str], source: str | None, *, may_hold: bool, words: str) -> None:
    """See whether a lazy `sink` can be opened later, without any change to what is there.

    Raises:
        ConfigError: it is the input, or cannot be written. Or it holds something and must not
            (`may_hold`); `words` say what to do then.
    """
    path = Path(sink.name)
    if source is not None:
        check_streams(source)
    if sink.name == "-":
        return
    if source is not None and is_same_file(source, sink.name):
        raise ConfigError(f"{sink.name} is the input; name another file for the output")
    if not sink.name:
        raise ConfigError("cannot write to a file without a name; name another file for the output")
    _user_files.check_writable(path)
    if path.is_file() and path.stat().st_size and not may_hold:
        raise ConfigError(f"{path} is not empty; {words}, or name another file")


def check_summary(sink: IO[str], *, json: bool) -> None:
    """See that a document at the end does not stand among the lines of `sink`.

    Raises:
        ConfigError: it would.
    """
    if json and sink.name == "-":
        raise ConfigError(
            "--json prints a document, and stdout has the lines of the results: name a file for "
            "these with --output"
        )


def appended(path: Path, whole: int) -> IO[str]:
    """Open the output of an interrupted run for more lines, behind its first `whole` bytes."""
    file = path.open("a", encoding="utf-8")
    file.truncate(whole)
    return file


class Done(Bitmap):
    """The items that need not run again."""

    def __init__(self) -> None:
        super().__init__()
        #: The bytes of all whole lines.
        self.size = 0
        #: The highest index, and the line that has it.
        self.last = (-1, 0)

    def check(self, count: int, path: Path) -> None:
        """See that all are of an input of `count` items.

        Raises:
            ConfigError: one is not.
        """
        index, number = self.last
        if index >= count:
            raise ConfigError(
                f"line {number} of {path} is about item {index}, and there are {count}; "
                "is it the output of another input?"
            )


def read_output(path: Path) -> Done:
    """Read the output of an interrupted run.

    An item's last line counts. What was torn off in the middle of the last line does not.

    Raises:
        ConfigError: it is no output of such a run.
    """
    done = Done()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n") and _begins_line(line):
                    break
                index, failed = _outcome(line, number, path)
                done.last = max(done.last, (index, number))
                done.set(index, on=not failed)
                done.size += len(line)
    except FileNotFoundError:
        return done
    return done


#: How each line of an output begins.
_BEGINNING = b'{"index": '


def _begins_line(torn: bytes) -> bool:
    """Whether this may be the beginning of a line of ours; else the file is another one."""
    return torn.startswith(_BEGINNING) or _BEGINNING.startswith(torn)


def _outcome(line: bytes, number: int, path: Path) -> tuple[int, bool]:
    try:
        entry = json.loads(line)
        index, failed = entry["index"], "error" in entry
    except (ValueError, TypeError, KeyError):
        index, failed = -1, False
    if type(index) is not int or not 0 <= index < _MOST:
        raise ConfigError(
            f"line {number} of {path} is not a line of `manyhands map`; name its output"
        )
    return index, failed


def write_line(sink: IO[str], entry: dict[str, Any]) -> None:
    """One line, at once: an interrupted run leaves every result that it had."""
    sink.write(_output.to_json(entry) + "\n")
    sink.flush()
