"""Records: dataclasses that nobody changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """A dataclass with slots, to whose fields type checkers let nobody assign.

    At run time nothing guards them: a frozen dataclass takes four times as long to make, and there are
    half a dozen for each message.
    """
    return dataclass(slots=True)(cls)
