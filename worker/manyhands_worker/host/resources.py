"""Amounts of named resources as people write them: ``gpu=auto,memory=8e9,ssd=1``."""

from __future__ import annotations

from manyhands_shared.errors import ConfigError
from manyhands_shared.protocol.job_options import (
    MAX_AMOUNT,
    MAX_NAME_CHARS,
    MAX_RESOURCES,
    MIN_AMOUNT,
)
from manyhands_worker.host.gpus import NO_GPUS, Gpus, find


def parse(text: str) -> dict[str, float | None]:
    """Read a comma-separated list of ``name=amount``; empty text is no resources, None is ``gpu=auto``.

    Raises:
        ConfigError: one line that says which part cannot be read, and why.
    """
    amounts: dict[str, float | None] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, number = map(str.strip, part.partition("="))
        if not equals or not name or len(name) > MAX_NAME_CHARS:
            raise _error(part, "is not of the form name=amount")
        if name in amounts:
            raise _error(part, f"gives {name} twice")
        if (name, number) == ("gpu", "auto"):
            amounts[name] = None
            continue
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


def offered(text: str) -> tuple[dict[str, float], Gpus]:
    """Return what a node offers that is told this, and which GPUs these are.

    Raises:
        ConfigError: it cannot be read, or the GPUs are not there.
    """
    amounts = parse(text)
    gpus = find(amounts["gpu"]) if amounts.get("gpu", 0.0) != 0 else NO_GPUS
    found = {"gpu": sum(gpus.offered.values())} if "gpu" in amounts else {}
    return {name: amount for name, amount in amounts.items() if amount is not None} | found, gpus


def _error(part: str, what: str) -> ConfigError:
    return ConfigError(f"resources: {part[:80]!r} {what}; write gpu=2,memory=8e9")
