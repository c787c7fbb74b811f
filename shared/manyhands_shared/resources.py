"""Amounts of named resources as people write them: ``gpu=2,memory=8e9,ssd=1``."""

from __future__ import annotations

import math

from manyhands_shared.errors import ConfigError
from manyhands_shared.options import MAX_NAME_CHARS

#: Names that one node or job may have.
MAX_NAMES = 32
MAX_AMOUNT = 1e18


def parse(text: str) -> dict[str, float]:
    """Read a comma-separated list of ``name=amount``; empty text is no resources.

    Raises:
        ConfigError: one line that says which part cannot be read, and why.
    """
    amounts: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, number = map(str.strip, part.partition("="))
        if not equals or not name or len(name) > MAX_NAME_CHARS:
            raise _error(part, "is not of the form name=amount")
        if name in amounts:
            raise _error(part, f"gives {name} twice")
        try:
            amount = float(number)
        except ValueError:
            raise _error(part, "has no number behind the equals sign") from None
        if not (math.isfinite(amount) and 0 <= amount <= MAX_AMOUNT):
            raise _error(part, f"must be between 0 and {MAX_AMOUNT:g}")
        amounts[name] = amount
    if len(amounts) > MAX_NAMES:
        raise ConfigError(f"resources: {len(amounts)} names are more than {MAX_NAMES}")
    return amounts


def _error(part: str, what: str) -> ConfigError:
    return ConfigError(f"resources: {part[:80]!r} {what}; write gpu=2,memory=8e9")
