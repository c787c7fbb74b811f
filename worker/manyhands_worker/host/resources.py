"""Amounts of named resources as people write them: ``gpu=2,memory=8e9,ssd=1``."""

from __future__ import annotations

from manyhands_shared.errors import ConfigError
from manyhands_shared.protocol.job_options import (
    MAX_AMOUNT,
    MAX_NAME_CHARS,
    MAX_RESOURCES,
    MIN_AMOUNT,
)


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
        if amount and not MIN_AMOUNT <= amount <= MAX_AMOUNT:
            raise _error(part, f"must be 0, or between {MIN_AMOUNT:g} and {MAX_AMOUNT:g}")
        amounts[name] = amount + 0.0
    if len(amounts) > MAX_RESOURCES:
        raise ConfigError(f"resources: {len(amounts)} names are more than {MAX_RESOURCES}")
    return amounts


def _error(part: str, what: str) -> ConfigError:
    return ConfigError(f"resources: {part[:80]!r} {what}; write gpu=2,memory=8e9")
