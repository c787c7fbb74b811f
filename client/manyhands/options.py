"""Options of jobs as users write them, turned into what travels."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from manyhands._code.surroundings import AskedOptions, wanted
from manyhands.requirements import Requirements
from manyhands_shared.errors import ConfigError, ManyhandsError, ProtocolError
from manyhands_shared.protocol.job_options import JobOptions
from manyhands_shared.shm import host_id

if TYPE_CHECKING:
    from manyhands.job import Job

#: Options that travel in the bundle, in the order of `wanted`.
_SURROUNDINGS = "files", "environment", "working_dir"
#: An exception class, or the name of one: ``ValueError``, ``package.Error``.
ErrorName = type[BaseException] | str


class SurroundingsOptions(TypedDict, total=False):
    """Name the options that say what tasks find around them.

    - `files`: data files and folders that the tasks find in their working directory, by the same
      relative paths; others by their names. Or a mapping of places there to paths here.
    - `environment`: variables that the tasks have, beside those of their node. Or `Requirements`, for
      which each node makes an environment of its own; it may have variables too.
    - `working_dir`: the directory on the nodes where the tasks run. Not together with `files`.
    """

    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Mapping[str, str]
    environment: Mapping[str, str] | Requirements
    working_dir: str | os.PathLike[str]


class TaskOptions(SurroundingsOptions, total=False):
    """Name the options of `Client.submit_job`, `Executor` and `with_options`. Times are seconds.

    Those of `SurroundingsOptions`, and:

    - `priority`: higher goes first on the whole broker, -1000 to 1000.
    - `durable`: the broker's journal holds the job, which then outlives this client and the broker.
      Without (the default) this client holds the job, and the job ends with this client.
    - `retries`: how often a task that raised or timed out runs again.
    - `retry_on`: only after these exceptions, classes or names; a built-in class stands for its
      subclasses too.
    - `retry_delay`, `retry_max_delay`: the wait before the first retry (1), doubling up to the
      maximum (60).
    - `timeout`: the node kills an attempt that takes longer, in C code too; the task raises
      `TaskTimeout`.
    - `deadline`: from submission; what has not ended by then raises `TaskTimeout`.
    - `at_most_once`: a task that may have started never runs again; it raises `TaskLost` instead.
      Not together with `retries`.
    - `speculative`: insurance against stragglers. It acts once nothing of the job waits any more and
      slots are free. A task that takes far longer than the others then runs on a second node too.
      The first result counts, and the node kills the other run. Not together with `at_most_once`.
    - `crash_limit`: after how many deaths of its child or node a task does not run again (0: the
      broker's).
    - `safe`: the function goes by its name, which nodes must be able to import. Arguments and results
      are plain values (msgpack). Safe nodes take no other jobs; this client loads no pickle either.
    - `resources`: what each task takes of its node: ``{"cpus": 2, "memory": 4e9, "gpu": 1}``. It sees
      its own GPUs alone; with ``{"gpu": 0.5}`` two tasks share one. One that has more than its `memory`
      raises `TaskMemoryExceeded`.
    - `keep`: large results stay on their nodes until their futures are asked for them. Other calls can
      have these futures as arguments meanwhile. Not together with `durable` or `safe`.
    - `echo`: what the tasks print, to stdout and stderr, appears here as whole lines, before their
      results. It is the default, unless ``MANYHANDS_ECHO=0`` is set. Not of durable jobs: their output
      is in `Job.output`.
    - `prefix`: each of these lines begins with the names of its node and task.
    - `after`: durable jobs, or their ids. The tasks begin when all of these are done, and get the
      results of each as a list before their own arguments. It makes this job durable too.
    """

    priority: int
    durable: bool
    retries: int
    retry_on: ErrorName | Iterable[ErrorName]
    retry_delay: float
    retry_max_delay: float
    timeout: float | None
    deadline: float | None
    at_most_once: bool
    speculative: bool
    crash_limit: int
    safe: bool
    resources: Mapping[str, float]
    keep: bool
    echo: bool
    prefix: bool
    after: Iterable[Job | str]


#: What others call options, and the resources that are meant.
_RESOURCES = {
    **dict.fromkeys(("memory", "mem", "ram"), "memory"),
    **dict.fromkeys(("cpu", "cpus", "ncpus", "num_cpus", "cores"), "cpus"),
    **dict.fromkeys(("gpu", "gpus", "ngpus", "num_gpus"), "gpu"),
}


def job_options(
    name: str | None = None, *, tasks_per_child: int | None = None, **options: Any
) -> AskedOptions:
    """The options of a job, known to be such as the broker takes; keys as in `TaskOptions`.

    Raises:
        ConfigError: one of them is not.
        TypeError: there is none by that name.
    """
    given = {"name": name or "", "tasks_per_child": tasks_per_child or 0, **options}
    files, environment, working_dir = (given.pop(key, None) for key in _SURROUNDINGS)
    for key in ("bundle", "requirements"):
        if key in given:
            raise TypeError(f"unknown option {key!r}{_like(key)}")
    labels: tuple[str, ...] = ()
    if isinstance(environment, Requirements):
        given["requirements"], labels = environment.lines, environment.labels
        environment = environment.variables
    if unknown := given.keys() - JobOptions.__dataclass_fields__.keys():
        raise TypeError(f"unknown option {min(unknown)!r}{_like(min(unknown))}")
    for key in ("timeout", "deadline"):
        given[key] = given.get(key) or 0.0
    if "retry_on" in given:
        given["retry_on"] = _names(given["retry_on"])
    if "after" in given:
        given["after"] = _ids(given["after"])
    if "resources" in given:
        if not isinstance(given["resources"], Mapping):
            raise ConfigError(
                "resources takes names with amounts, as {'cpus': 2}, "
                f"not {given['resources']!r:.80}"
            )
        given["resources"] = dict(given["resources"])
    if given.get("after"):
        given.setdefault("durable", True)
    given.setdefault("echo", not given.get("durable") and _echoes())
    # What the journal is to hold goes through the broker.
    given.setdefault("direct", bool(host_id()) and not given.get("durable"))
    around = wanted(files, environment, working_dir)
    if given.get("safe") and (around is not None or labels):
        raise ConfigError(
            "a safe job runs functions as they are installed on its nodes: leave out files, "
            "environment and working_dir"
        )
    try:
        made = replace(AskedOptions.from_map(given), wanted=around, labels=labels)
    except ProtocolError as error:
        raise ConfigError(str(error)) from None
    if made.after and not made.durable:
        raise ConfigError("only a durable job can come after others; leave out durable=False")
    if made.durable and made.echo:
        raise ConfigError(
            "what a durable job prints is kept with it: leave out echo, and read Job.output or "
            "`manyhands logs`"
        )
    return made


def count(name: str, value: Any) -> int | None:
    """Return a number of processes or tasks as an `int`; None where none was given.

    Raises:
        TypeError: it is no integer.
    """
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r:.80}") from None


def not_of_a_pool(name: str) -> str:
    """Return what is wrong with an option of a `Pool`, as a sentence."""
    if name in TaskOptions.__annotations__:
        return f"Pool takes no option {name!r}; Executor does"
    if resource := _RESOURCES.get(name):
        return f"Pool takes no option {name!r}; write Executor(resources={{{resource!r}: …}})"
    return f"unknown option {name!r}{_like(name)}"


def _like(name: str) -> str:
    """Return the option that a wrong name may stand for, as the end of a sentence."""
    import difflib  # noqa: PLC0415 - for a wrong name alone

    if resource := _RESOURCES.get(name):
        return f"; write resources={{{resource!r}: …}}"
    options = TaskOptions.__annotations__
    close = difflib.get_close_matches(name, options, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _echoes() -> bool:
    """Return whether what tasks print is shown here unless a job says otherwise."""
    return os.environ.get("MANYHANDS_ECHO", "") != "0"


def _names(errors: ErrorName | Iterable[ErrorName]) -> tuple[str, ...]:
    chosen = (errors,) if isinstance(errors, str | type) else tuple(errors)
    return tuple(name if isinstance(name, str) else _name(name) for name in chosen)


def _name(kind: type[BaseException]) -> str:
    """As a node names the class of what was raised; ours by their plain names."""
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise ConfigError(f"retry_on takes exception classes and their names, not {kind!r:.80}")
    if kind.__module__ == "builtins" or issubclass(kind, ManyhandsError):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _ids(jobs: Any) -> tuple[str, ...]:
    if isinstance(jobs, str) or hasattr(jobs, "id"):
        jobs = (jobs,)
    chosen = tuple(jobs) if isinstance(jobs, Iterable) else (jobs,)
    for job in chosen:
        if not (isinstance(job, str) or hasattr(job, "id")):
            raise ConfigError(f"after takes jobs and their ids, not {job!r:.80}")
    return tuple(job if isinstance(job, str) else job.id for job in chosen)
