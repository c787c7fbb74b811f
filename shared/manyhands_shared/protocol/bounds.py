"""What a field may hold: the bounds that stand in the annotations of messages, options and datagrams.

A `Bound` says in one place what the decoder lets through and what `docs/protocol.md` prints. The decoder
compiles `Bound.test` into the check of the whole record, so a bound costs what the comparison costs.

To declare a field, annotate it with an alias of `messages`, or with a bound of its own::

    retries: Annotated[int, Int("u32", 0, (1 << 32) - 1)]
    name: Annotated[str, Text(200)]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from functools import cache
from math import isfinite
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_args, get_type_hints

T = TypeVar("T")

#: The highest index of a task.
MAX_INDEX = (1 << 48) - 1
#: Entries of one vector of tasks; groups in one message.
MAX_TASKS = 65_536
#: Entries of all vectors of one message together.
MAX_ENTRIES = 1 << 20
#: Payload frames that one body may have, and one message.
MAX_FRAMES = 65_536
MAX_KEY_CHARS = 256
#: The least positive number that division still treats as an ordinary one.
LEAST = sys.float_info.min


@dataclass_transform(frozen_default=True)
def declared(cls: type[T]) -> type[T]:
    """Have type checkers see a dataclass. `Bound` initialises it, for a dataclass takes long to make."""
    return cls


class Bound:
    """What a value may be.

    `test` is an expression over the text `value`, true where the value is let through. It may name
    what this module defines.
    """

    #: What the page calls it, and how it says the limit.
    name: str
    limit: str
    __match_args__: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        cls.__match_args__ = tuple(cls.__annotations__)  # type: ignore[misc]

    def __init__(self, *values: Any, **named: Any) -> None:
        vars(self).update(zip(self.__match_args__, values, strict=False), **named)

    def test(self, value: str) -> str:
        """The check of a value, as an expression."""
        raise NotImplementedError

    def normal(self, value: str) -> str | None:
        """What to take for a value that passed, as an expression; `None` is the value itself."""
        del value
        return None


@declared
class Int(Bound):
    """An integer from `low` to `high`, both included."""

    name: str
    low: int
    high: int

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        return f"{number(self.low)} to {number(self.high)}"

    def test(self, value: str) -> str:
        """The check of a value."""
        return f"type({value}) is int and {self.low} <= {value} <= {self.high}"


@declared
class Float(Bound):
    """A finite number from `low` to `high`, and no subnormal one: division by those overflows."""

    name: str
    low: float
    high: float

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        return f"{number(self.low)} to {number(self.high)}, none subnormal"

    def test(self, value: str) -> str:
        """The check of a value."""
        kind = f"type({value}) in (float, int)"
        if self.low > 0:
            return f"{kind} and {self.low!r} <= {value} <= {self.high!r}"
        return f"{kind} and (LEAST <= {value} <= {self.high!r} or {value} == 0)"

    def normal(self, value: str) -> str | None:
        """A float; what is minus zero becomes zero."""
        return f"{value} + 0.0"


@declared
class Text(Bound):
    """Text of `least` to `most` characters; a `word` is of visible ASCII ones alone."""

    most: int
    least: int = 0
    word: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        """As the page calls it."""
        return f"{'word' if self.word else 'text'}({self.most})"

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        kind = "visible ASCII characters" if self.word else "characters"
        return f"{self.least} to {self.most:,} {kind}"

    def test(self, value: str) -> str:
        """The check of a value."""
        least = f"{self.least} <= " if self.least else ""
        test = f"type({value}) is str and {least}len({value}) <= {self.most}"
        if not self.word:
            return test
        return f"{test} and {value}.isascii() and {value}.isprintable() and ' ' not in {value}"


@declared
class Bytes(Bound):
    """Exactly `size` bytes; up to `most` such, one behind the other, where `most` is given."""

    name: str
    size: int
    most: int | None = None

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        if self.most is None:
            return f"exactly {self.size} bytes"
        return f"up to {self.most:,} keys of {self.size} bytes, one behind the other"

    def test(self, value: str) -> str:
        """The check of a value."""
        if self.most is None:
            return f"type({value}) is bytes and len({value}) == {self.size}"
        lengths = f"range(0, {self.size * self.most + 1}, {self.size})"
        return f"type({value}) is bytes and len({value}) in {lengths}"


@declared
class Flag(Bound):
    """True or false."""

    name = "flag"
    limit = "true or false"

    def test(self, value: str) -> str:
        """The check of a value."""
        return f"type({value}) is bool"


@declared
class Map(Bound):
    """A map from text to plain values, all its levels and texts counted together.

    Args:
        depth: levels, its own included.
        entries: of it and of all maps and lists in it.
        chars: of all texts and bytes in it, keys included.
    """

    name: str
    depth: int
    entries: int
    chars: int
    optional: bool = False

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        deep = "one level" if self.depth == 1 else f"{self.depth} levels"
        nothing = ", or nil" if self.optional else ""
        return (
            f"{deep}, {self.entries:,} entries, {self.chars:,} characters in all, "
            f"finite numbers{nothing}"
        )

    def test(self, value: str) -> str:
        """The check of a value."""
        test = f"is_map({value}, {self.depth}, {self.entries}, {self.chars})"
        return f"({value} is None or {test})" if self.optional else test


@declared
class Value(Bound):
    """Any plain value of up to `depth` levels of lists and maps."""

    depth: int
    name = "value"

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        return f"no extension types, {self.depth} levels, finite numbers"

    def test(self, value: str) -> str:
        """The check of a value."""
        return f"is_bounded({value}, {self.depth}, {1 << 62}, {1 << 62})"


@declared
class Indices(Bound):
    """Different indices of tasks, or sizes that may be equal."""

    name: str = "indices"
    least: int = 0
    most: int = MAX_TASKS
    distinct: bool = True

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        kind = "different entries" if self.distinct else "entries"
        return f"{self.least} to {self.most:,} {kind}, each 0 to {number(MAX_INDEX)}"

    def test(self, value: str) -> str:
        """The check of a value."""
        return f"are_indices({value}, {self.least}, {self.most}, {self.distinct})"


@declared
class Statuses(Bound):
    """One byte a task."""

    highest: int
    name = "statuses"

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        return f"each 0 to {self.highest}"

    def test(self, value: str) -> str:
        """The check of a value."""
        return f"type({value}) is bytes and (not {value} or max({value}) <= {self.highest})"


@declared
class Bodies(Bound):
    """Payloads: each one in the header, or a number of frames behind it."""

    name: str = "bodies"
    least: int = 0
    most: int = MAX_TASKS

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        if self.least == self.most:
            return f"exactly {self.most}"
        return f"{self.least} to {self.most:,} entries, integers 1 to {MAX_FRAMES:,}"

    def test(self, value: str) -> str:
        """The check of a value."""
        check = f"are_bodies({value}, {self.least}, {self.most})"
        # Most messages that may have payloads have none.
        return check if self.least else f"({value} == [] or {check})"


@declared
class Groups(Bound):
    """Parts of a message, each of the fields of the class `group`."""

    group: Any
    most: int = MAX_TASKS

    @property
    def name(self) -> str:  # type: ignore[override]
        """As the page calls it."""
        return f"{self.group.__name__}({self.most})"

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        return f"up to {self.most:,} entries"

    def test(self, value: str) -> str:
        """The check of a value; that of each entry is its builder's."""
        return f"type({value}) is list and len({value}) <= {self.most}"


@declared
class Hex(Bound):
    """Nothing, or `size` bytes in small hexadecimal digits."""

    name: str
    size: int

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        return f"nothing, or {2 * self.size} hexadecimal digits"

    def test(self, value: str) -> str:
        """The check of a value."""
        digits = f"set({value}) <= set('0123456789abcdef')"
        return f"type({value}) is str and len({value}) in (0, {2 * self.size}) and {digits}"


@declared
class Names(Bound):
    """A tuple of up to `most` different names of 1 to `chars` characters."""

    most: int
    chars: int
    name = "names"

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        return f"up to {self.most:,} texts of 1 to {self.chars} characters"

    def test(self, value: str) -> str:
        """The check of a value."""
        return f"type({value}) is tuple and are_names({value}, {self.most}, {self.chars})"


@declared
class Amounts(Bound):
    """Amounts by name. None is so little, beside zero, that division by it overflows."""

    most: int
    chars: int
    low: float
    high: float
    name = "amounts"

    @property
    def limit(self) -> str:  # type: ignore[override]
        """As the page says it."""
        amount = f"0, or {number(self.low)} to {number(self.high)}"
        return f"up to {self.most} names of 1 to {self.chars} characters, each with {amount}"

    def test(self, value: str) -> str:
        """The check of a value."""
        names = f"are_names({value}, {self.most}, {self.chars})"
        amounts = f"are_amounts({value}.values(), {self.low!r}, {self.high!r})"
        return f"type({value}) is dict and {names} and {amounts}"

    def normal(self, value: str) -> str | None:
        """Floats; what is minus zero becomes zero."""
        return f"{{name: amount + 0.0 for name, amount in {value}.items()}}"


@dataclass(frozen=True)
class Sum:
    """`first` and the `count` behind it, a number or a vector, reach up to `high` together."""

    first: str
    count: str
    high: int = MAX_INDEX + 1


def of_fields(kind: Any) -> dict[str, Bound]:
    """The bound of each field of a dataclass, by its name.

    Raises:
        TypeError: a field has none.
    """
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, Bound] = {}
    for field in fields(kind):
        bounds = [one for one in get_args(hints[field.name])[1:] if isinstance(one, Bound)]
        if len(bounds) != 1:
            raise TypeError(f"{kind.__name__}.{field.name} has {len(bounds)} bounds")
        found[field.name] = bounds[0]
    return found


@cache
def check(bound: Bound) -> Callable[[Any], bool]:
    """The check of single values, for where these do not come by the thousand."""
    made: Callable[[Any], bool] = eval(f"lambda value: bool({bound.test('value')})", globals())
    return made


@cache
def normal(bound: Bound) -> Callable[[Any], Any]:
    """What to take for a value that has passed the check."""
    made: Callable[[Any], Any] = eval(
        f"lambda value: {bound.normal('value') or 'value'}", globals()
    )
    return made


@cache
def fits(kind: Any) -> Callable[[Any], bool]:
    """A check of all fields of an instance of a dataclass."""
    tests = [bound.test(f"one.{name}") for name, bound in of_fields(kind).items()]
    made: Callable[[Any], bool] = eval(f"lambda one: bool({' and '.join(tests)})", globals())
    return made


def number(value: float) -> str:
    """A bound for people: powers of two as such."""
    if value % 1 or (value >= 1e12 and not value % 1e12):
        return f"{value:g}".replace("e+", "e")
    for plus, sign in ((0, ""), (1, " - 1")):
        whole = int(value) + plus
        if whole >= 1 << 20 and whole.bit_count() == 1:
            return f"2^{whole.bit_length() - 1}{sign}"
    return f"{int(value):,}"


# What tests name.


def is_map(value: Any, depth: int, entries: int, chars: int) -> bool:
    """Whether it is a map within these bounds; see `Map`."""
    return type(value) is dict and is_bounded(value, depth, entries, chars)


def is_bounded(value: Any, depth: int, entries: int, chars: int) -> bool:
    """Whether a plain value keeps within bounds; level by level, so that no depth is too much."""
    level = [value]
    for _ in range(depth + 1):
        below: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is str or kind is bytes:
                chars -= len(one)
            elif kind is float:
                if not isfinite(one):
                    return False
            elif kind is list:
                below += one
            elif kind is dict:
                if not all(type(key) is str and len(key) <= MAX_KEY_CHARS for key in one):
                    return False
                chars -= sum(map(len, one))
                below += one.values()
        entries -= len(below)
        if entries < 0 or chars < 0:
            return False
        if not below:
            return True
        level = below
    return False


def are_indices(value: Any, least: int, most: int, distinct: bool) -> bool:
    """Whether it is a vector of indices; see `Indices`."""
    if type(value) is not list or not least <= len(value) <= most:
        return False
    if len(value) == 1:
        return type(value[0]) is int and 0 <= value[0] <= MAX_INDEX
    if not value:
        return True
    if set(map(type, value)) != {int}:
        return False
    first, last, count = value[0], value[-1], len(value)
    if last - first == count - 1 and value == [*range(first, last + 1)]:
        return bool(first >= 0 and last <= MAX_INDEX)
    if min(value) < 0 or max(value) > MAX_INDEX:
        return False
    return not distinct or len(set(value)) == count


def are_names(value: Collection[Any], most: int, chars: int) -> bool:
    """Whether these are names; see `Names`."""
    return len(value) <= most and all(type(one) is str and 0 < len(one) <= chars for one in value)


def are_amounts(values: Iterable[Any], low: float, high: float) -> bool:
    """Whether each is zero or an amount; see `Amounts`."""
    return all(type(one) in (int, float) and (one == 0 or low <= one <= high) for one in values)


def are_bodies(value: Any, least: int, most: int) -> bool:
    """Whether it is a vector of payloads; see `Bodies`."""
    if type(value) is not list or not least <= len(value) <= most:
        return False
    kinds = set(map(type, value))
    if kinds <= {bytes}:
        return True
    return kinds <= {bytes, int} and all(type(v) is bytes or 1 <= v <= MAX_FRAMES for v in value)
