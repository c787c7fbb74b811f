"""The flags of a verb that submits a job."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from manyhands.cli import _user_files
from manyhands.cli._duration import DURATION, TIME_LIMIT
from manyhands.requirements import Requirements
from manyhands_shared.errors import ConfigError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: Flags of single tasks, and the options of `Client.submit_job` that they stand for.
_TASK_OPTIONS = {
    "priority": "priority",
    "retries": "retries",
    "retry_on": "retry_on",
    "retry_delay": "retry_delay",
    "retry_max_delay": "retry_max_delay",
    "task_timeout": "timeout",
    "deadline": "deadline",
    "at_most_once": "at_most_once",
    "speculative": "speculative",
    "crash_limit": "crash_limit",
    "safe": "safe",
    "resource": "resources",
    "after": "after",
    "files": "files",
    "variables": "environment",
    "cwd": "working_dir",
}


def task_options(function: Decorated) -> Decorated:
    """``--name``, ``--priority``, and what holds for each task: retries, limits, resources."""
    for add in reversed(
        (
            click.option("--name", default="", help="The job's name; else MODULE:FUNCTION."),
            click.option(
                "--priority",
                type=click.IntRange(-1_000, 1_000),
                default=0,
                show_default=True,
                help="Higher goes first, among all jobs of the broker.",
            ),
            click.option(
                "--retries",
                type=click.IntRange(0, 1_000_000),
                default=0,
                show_default=True,
                help="How often a task that raised or timed out runs again.",
            ),
            click.option(
                "--retry-on",
                multiple=True,
                metavar="ERROR",
                help="Only after exceptions of this class, as ValueError; repeatable.",
            ),
            click.option(
                "--retry-delay",
                type=DURATION,
                default=1.0,
                show_default="1s",
                help="Wait before the first retry; it doubles with each.",
            ),
            click.option(
                "--retry-max-delay",
                type=DURATION,
                default=60.0,
                show_default="1m",
                help="The longest wait before a retry.",
            ),
            click.option(
                "--task-timeout",
                type=DURATION,
                help="A run of a task that takes longer is killed, and counts as failed.",
            ),
            click.option(
                "--deadline",
                type=DURATION,
                help="Tasks that have not ended this time after submission fail.",
            ),
            click.option(
                "--at-most-once",
                is_flag=True,
                help="Never run a task again that may have started; it is lost instead.",
            ),
            click.option(
                "--speculative",
                is_flag=True,
                help="Run the last tasks twice, on two nodes, that take far longer than the others.",
            ),
            click.option(
                "--crash-limit",
                type=click.IntRange(0, 1_000_000),
                default=0,
                help="Give a task up that ended this many processes; the broker's number if not given.",
            ),
            click.option(
                "--safe",
                is_flag=True,
                help="Send the function by its name and plain values only, as safe nodes want it.",
            ),
            click.option(
                "--resource",
                multiple=True,
                metavar="NAME=AMOUNT",
                help="What each task takes of its node: cpus=2, memory=4e9, gpu=1, gpu=0.5; repeatable.",
            ),
        )
    ):
        function = add(function)
    return function


def surroundings_options(function: Decorated) -> Decorated:
    """``--file``, ``--env``, ``--cwd`` and ``--with`` for tasks that are functions."""
    for add in (
        click.option(
            "--with-requirements",
            "listed",
            metavar="FILE",
            help="A requirements file that nodes install in an environment for the tasks.",
        ),
        click.option(
            "--with",
            "packages",
            multiple=True,
            metavar="PACKAGE",
            help="A package that nodes install there, as numpy==2.1; repeatable.",
        ),
        click.option("--cwd", metavar="DIRECTORY", help="Where tasks run, on each node."),
        click.option(
            "--env",
            "variables",
            multiple=True,
            metavar="NAME[=VALUE]",
            help="A variable for the tasks, or one of here by its name; repeatable.",
        ),
        click.option(
            "--file",
            "files",
            multiple=True,
            metavar="PATH",
            help="A file or folder that tasks find in their directory; repeatable.",
        ),
    ):
        function = add(function)
    return function


def job_options(function: Decorated) -> Decorated:
    """`task_options`, `surroundings_options`, and ``--timeout`` for a verb that waits."""
    return task_options(
        surroundings_options(
            click.option(
                "--timeout",
                type=TIME_LIMIT,
                help="Cancel the job and give up after this time, with exit code 124.",
            )(function)
        )
    )


def variable(text: str) -> tuple[str, str]:
    """Return the name and the value of an ``--env``.

    Raises:
        ConfigError: it is neither ``NAME=VALUE`` nor the name of a variable of this process.
    """
    name, equals, value = text.partition("=")
    if not name or (not equals and name not in os.environ):
        raise ConfigError(
            f"--env {text!r} is neither NAME=VALUE nor the name of a variable of here"
        )
    return name, value if equals else os.environ[name]


def split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of a verb's options goes to `Client.submit_job`, and the rest."""
    chosen = {
        _TASK_OPTIONS[name]: value for name, value in options.items() if name in _TASK_OPTIONS
    }
    for path in chosen.get("files", ()):
        _user_files.check_sendable(path, "--file")
    chosen["resources"] = dict(map(_amount, chosen.get("resources", ())))
    rest = {name: value for name, value in options.items() if name not in _TASK_OPTIONS}
    variables = dict(map(variable, chosen.get("environment", ())))
    chosen["environment"] = _environment(
        rest.pop("packages", ()), rest.pop("listed", None), variables
    )
    return chosen, rest


def _environment(
    packages: tuple[str, ...], listed: str | None, variables: dict[str, str]
) -> Requirements | dict[str, str]:
    """Return what ``--with``, ``--with-requirements`` and ``--env`` ask for."""
    if listed is not None:
        return Requirements.from_file(listed, variables, packages)
    return Requirements(*packages, variables=variables) if packages else variables


def _amount(text: str) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    try:
        return name, float(amount)
    except ValueError:
        raise ConfigError(f"--resource {text!r} is not NAME=AMOUNT, as in cpus=2") from None
