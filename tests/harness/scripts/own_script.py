"""Functions of a script, and calls of them as a child makes them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from manyhands._submit import functions
from manyhands._submit.fingerprint import Fingerprint
from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.by_value.class_resolution import World

PREAMBLE = """
import abc, dataclasses, datetime, enum, numpy, types, typing
class Plain: pass
class Settings:
    rate = 1
    def method(self): return 1
class Slots:
    __slots__ = ("x", "y")
@dataclasses.dataclass
class Data:
    x: object = None
    y: list = dataclasses.field(default_factory=list)
class Abstract(abc.ABC):
    @abc.abstractmethod
    def x(self): ...
class Own:
    def __init__(self, x): self.x = x
    def __reduce__(self): return Own, (self.x,)
class Listed(list): pass
class Color(enum.Enum):
    RED = 1
class Pair(typing.NamedTuple):
    x: object
class Number(numpy.float64):
    def __new__(cls, x, unit=1):
        self = numpy.float64.__new__(cls, x)
        self.unit = unit
        return self
    def __reduce__(self): return Number, (float(self), self.unit)
T = typing.TypeVar("T")
class Box(typing.Generic[T]):
    rate = 1
class BuiltinBox:
    rate = 1
    __class_getitem__ = classmethod(types.GenericAlias)
class Zone(datetime.tzinfo):
    hours = 1
    def utcoffset(self, when): return datetime.timedelta(hours=self.hours)
"""


def script(source: str = "", **names: Any) -> dict[str, Any]:
    """The globals of a script."""
    space = {"__name__": "__main__", **names}
    exec(PREAMBLE + source, space)
    return space


class Caller:
    """Calls a function as a child would: from the pickle that is kept as long as it may be."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.pickled = 0
        self._fingerprint: Fingerprint | None = None
        self._body: Any = b""

    def __call__(self) -> Any:
        if self._fingerprint is None or not self._fingerprint.holds():
            self._fingerprint = functions.fingerprint(self.function) or Fingerprint(self.function)
            (self._body,) = functions.pack(self.function).bodies
            self.pickled += 1
        pickled.arrive_at(World(OrderedDict()))
        return pickled.loads(self._body)()
