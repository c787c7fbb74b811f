"""What a job asks for, as it travels in `SubmitGroup.options`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Annotated, Any, Self

from manyhands_shared.errors import ProtocolError
from manyhands_shared.protocol import bounds, requirements
from manyhands_shared.protocol.bounds import Amounts, Flag, Float, Hex, Int, Names, Text
from manyhands_shared.protocol.labels import PICKLE

MAX_NAME_CHARS = 200
#: Ten years: longer than any job, short enough for every clock.
MAX_SECONDS = 10 * 365 * 86_400.0
#: Names of resources that one node or job may have, and the amounts.
MAX_RESOURCES = 32
MIN_AMOUNT, MAX_AMOUNT = 1e-6, 1e18

Switch = Annotated[bool, Flag()]
Seconds = Annotated[float, Float("seconds", 0, MAX_SECONDS)]
Often = Annotated[int, Int("count", 0, 1_000_000)]


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
    - `speculative`: when no task waits any more, one that takes far longer than the others runs a second
      time on another node. The first result counts. It cannot go with `at_most_once`.
    - `crash_limit`: a task is not run again after it ended this number of children or nodes (0: as the
      broker says).
    - `needs`: labels that a node must have, see `labels`.
    - `python`: the client's, major and minor (``3.12``); empty where it does not matter.
    - `safe`: the function goes by name, arguments and results are msgpack, see `payloads.safe`.
    - `resources`: what each task takes of its node, by name (``cpus``, ``memory``, ``gpu``, any label).
      Of `gpu`, whole ones or a part of one.
    - `direct`: a node may keep a large result until the client has fetched it from there.
    - `keep`: the client fetches such a result when its user asks for it. It cannot go with `durable` or
      `safe`.
    - `fetch_key`: the public key with which the client comes for it from another host, in hexadecimal;
      empty: it does not come.
    - `echo`: what the tasks of an attached job print comes to its client.
    - `prefix`: the client shows each line with its node and task.
    - `after`: ids of durable jobs that run before. Their results are passed to the tasks, before their
      own arguments, as one list for each of these jobs.
    - `trace`: the node tells the child which tasks these are, for their spans (see `tracing`).
    - `bundle`: the digest, in hexadecimal, of the client's own modules that the tasks find (see
      `payloads.bundle`); empty: none.
    - `requirements`: what the node installs for the tasks, in an environment of their own (see
      `requirements`); empty: nothing.
    """

    name: Annotated[str, Text(MAX_NAME_CHARS)] = ""
    priority: Annotated[int, Int("priority", -1_000, 1_000)] = 0
    tasks_per_child: Annotated[int, Int("count", 0, 1_000_000_000)] = 0
    durable: Switch = False
    retries: Often = 0
    retry_on: Annotated[tuple[str, ...], Names(64, MAX_NAME_CHARS)] = ()
    retry_delay: Seconds = 1.0
    retry_max_delay: Seconds = 60.0
    timeout: Seconds = 0.0
    deadline: Seconds = 0.0
    at_most_once: Switch = False
    crash_limit: Often = 0
    needs: Annotated[tuple[str, ...], Names(32, MAX_NAME_CHARS)] = (PICKLE,)
    python: Annotated[str, Text(16)] = ""
    safe: Switch = False
    resources: Annotated[
        Mapping[str, float], Amounts(MAX_RESOURCES, MAX_NAME_CHARS, MIN_AMOUNT, MAX_AMOUNT)
    ] = field(default_factory=dict)
    after: Annotated[tuple[str, ...], Names(1_000, 64)] = ()
    direct: Switch = False
    keep: Switch = False
    fetch_key: Annotated[str, Hex("key", 32)] = ""
    speculative: Switch = False
    echo: Switch = False
    prefix: Switch = False
    trace: Switch = False
    bundle: Annotated[str, Hex("digest", 16)] = ""
    requirements: Annotated[
        tuple[str, ...], Names(requirements.MAX_LINES, requirements.MAX_CHARS)
    ] = ()

    def to_map(self) -> dict[str, Any]:
        """Only what differs from the defaults, in plain values."""
        values: dict[str, Any] = {}
        for option in fields(JobOptions):
            value = getattr(self, option.name)
            if value != getattr(DEFAULTS, option.name):
                values[option.name] = list(value) if isinstance(value, tuple) else value
        return values

    def digests(self, function: bytes) -> tuple[bytes, ...]:
        """What the tasks of a job need beside their arguments: its function, and its bundle."""
        bundle = bytes.fromhex(self.bundle)
        return (function, bundle) if bundle and bundle != function else (function,)

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> Self:
        """Check and build.

        Raises:
            ProtocolError: an unknown key, a value of the wrong kind or range, or options that cannot go
                together.
        """
        given, known = dict(values), _bounds()
        for key, value in given.items():
            bound = known.get(key)
            if bound is None:
                raise ProtocolError(f"unknown job option {key[:80]!r}")
            if isinstance(value, list):
                given[key] = tuple(value)
            elif isinstance(value, Mapping):
                given[key] = dict(value)
            if not bounds.check(bound)(given[key]):
                raise ProtocolError(f"job option {key!r} cannot be {value!r:.80}: {bound.limit}")
            given[key] = bounds.normal(bound)(given[key])
        options = cls(**given)
        if options.at_most_once and options.retries:
            raise ProtocolError(
                "a job with at_most_once runs no task twice, so it cannot have retries: leave one out"
            )
        if options.at_most_once and options.speculative:
            raise ProtocolError(
                "a job with at_most_once runs no task twice, so it cannot be speculative: leave one out"
            )
        gpu = options.resources.get("gpu", 0.0)
        if gpu > 1 and gpu != int(gpu):
            raise ProtocolError(
                f"a task takes whole GPUs or a part of one, and gpu={gpu:g} is neither"
            )
        if options.safe and (options.bundle or options.requirements):
            raise ProtocolError(
                "a safe job brings no code: its nodes run functions that are installed there"
            )
        requirements.check(options.requirements)
        if options.keep and (options.durable or options.safe):
            raise ProtocolError(
                "only the tasks of a job that is neither durable nor safe can keep their results on "
                "nodes: leave out keep"
            )
        return options


DEFAULTS = JobOptions()


@cache
def _bounds() -> dict[str, bounds.Bound]:
    """The bound of each option."""
    return bounds.of_fields(JobOptions)
