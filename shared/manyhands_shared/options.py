"""What a job asks for, as it travels in `SubmitGroup.options`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from manyhands_shared.errors import ProtocolError
from manyhands_shared.labels import PICKLE

MAX_NAME_CHARS = 200
#: Ten years: longer than any job, short enough for every clock.
MAX_SECONDS = 10 * 365 * 86_400.0
_PUBLIC_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Options of one job; keys left out have these defaults. Times in seconds.

    - `name`: for people; escaped wherever it is shown.
    - `priority`: higher first, within the whole broker; beyond what the client's key may have among
      others' jobs, only among its own.
    - `tasks_per_child`: a child is replaced after this many tasks of the job's client (0: never).
    - `durable`: the job is held by the broker's journal and outlives its client and the broker;
      otherwise the client's session holds it.
    - `retries`: how often a task that raised runs again.
    - `retry_on`: class names (``ValueError``, ``package.Error``) of exceptions that are worth another
      run, built-in bases included; empty: all.
    - `retry_delay`, `retry_max_delay`: wait before the first retry, doubling up to the maximum, each
      drawn from the upper half of that (equal jitter).
    - `timeout`: an attempt that runs longer is killed, in C code too (0: never).
    - `deadline`: from submission; tasks that have not ended by then end as timed out (0: never).
    - `at_most_once`: a task that may have started is never given out again; it is lost instead. It
      cannot go with `retries`, which would give it out again.
    - `speculative`: a task that takes far longer than the others, when none of them wait any more, is
      run a second time on another node; the first result counts. It cannot go with `at_most_once`.
    - `crash_limit`: a task that ended so many children or nodes is not run again (0: the broker's).
    - `needs`: labels that a node must have, see `labels`.
    - `python`: the client's, major and minor (``3.12``); empty where that is nobody's business.
    - `safe`: the function goes by name, arguments and results are msgpack, see `plain`.
    - `resources`: what each task takes of its node, by name (``cpus``, ``memory``, any label).
    - `direct`: a node may keep a large result until the client has fetched it from there.
    - `fetch_key`: the public key with which the client comes for it from another host, in hexadecimal;
      empty: it does not come.
    - `after`: ids of durable jobs whose results are passed to the tasks, before their own arguments,
      as one list for each of these jobs, once they are all done.
    """

    name: str = ""
    priority: int = 0
    tasks_per_child: int = 0
    durable: bool = False
    retries: int = 0
    retry_on: tuple[str, ...] = ()
    retry_delay: float = 1.0
    retry_max_delay: float = 60.0
    timeout: float = 0.0
    deadline: float = 0.0
    at_most_once: bool = False
    crash_limit: int = 0
    needs: tuple[str, ...] = (PICKLE,)
    python: str = ""
    safe: bool = False
    resources: Mapping[str, float] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    direct: bool = False
    fetch_key: str = ""
    speculative: bool = False

    def to_map(self) -> dict[str, Any]:
        """Only what differs from the defaults, in plain values."""
        values: dict[str, Any] = {}
        for option in fields(self):
            value = getattr(self, option.name)
            if value != getattr(DEFAULTS, option.name):
                values[option.name] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> JobOptions:
        """Check and build.

        Raises:
            ProtocolError: an unknown key, a value of the wrong kind or range, or `retries` or
                `speculative` together with `at_most_once`.
        """
        given = dict(values)
        for key, value in given.items():
            check = _CHECKS.get(key)
            if check is None:
                raise ProtocolError(f"unknown job option {key!r}")
            if isinstance(value, list):
                given[key] = tuple(value)
            if not check(given[key]):
                raise ProtocolError(f"job option {key!r} cannot be {value!r:.80}")
        options = cls(**given)
        if options.at_most_once and options.retries:
            raise ProtocolError(
                "a job with at_most_once runs no task twice, so it cannot have retries: leave one out"
            )
        if options.at_most_once and options.speculative:
            raise ProtocolError(
                "a job with at_most_once runs no task twice, so it cannot be speculative: leave one out"
            )
        return options


DEFAULTS = JobOptions()


def _is_count(value: Any, top: int) -> bool:
    return type(value) is int and 0 <= value <= top


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_SECONDS


def _are_names(value: Any, count: int) -> bool:
    return (
        type(value) is tuple
        and len(value) <= count
        and all(type(name) is str and 0 < len(name) <= MAX_NAME_CHARS for name in value)
    )


def _are_resources(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and _are_names(tuple(value), 32)
        and all(type(amount) in (int, float) and 0 <= amount <= 1e18 for amount in value.values())
    )


def _is_flag(value: Any) -> bool:
    return type(value) is bool


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "name": lambda v: type(v) is str and len(v) <= MAX_NAME_CHARS,
    "priority": lambda v: type(v) is int and -1_000 <= v <= 1_000,
    "tasks_per_child": lambda v: _is_count(v, 1_000_000_000),
    "durable": _is_flag,
    "retries": lambda v: _is_count(v, 1_000_000),
    "retry_on": lambda v: _are_names(v, 64),
    "retry_delay": _is_number,
    "retry_max_delay": _is_number,
    "timeout": _is_number,
    "deadline": _is_number,
    "at_most_once": _is_flag,
    "crash_limit": lambda v: _is_count(v, 1_000_000),
    "needs": lambda v: _are_names(v, 32),
    "python": lambda v: type(v) is str and len(v) <= 16,
    "safe": _is_flag,
    "resources": _are_resources,
    "after": lambda v: _are_names(v, 1_000),
    "direct": _is_flag,
    "fetch_key": lambda v: type(v) is str and (not v or _PUBLIC_KEY.fullmatch(v) is not None),
    "speculative": _is_flag,
}
