"""Environment variables that a child has for some tasks alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def present(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these variables, and those of before afterwards, whatever the tasks have set."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
