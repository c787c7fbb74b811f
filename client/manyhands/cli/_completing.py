"""What a shell offers for ids of jobs, names of nodes, and ``MODULE:FUNCTION``.

The shell waits meanwhile: the broker has a second to answer, or what --connect-timeout says. What goes
wrong offers nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

#: How long a shell may wait for a broker.
_SECONDS = 1.0
#: What is offered at most.
_MOST = 200


def jobs(ctx: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Ids that begin with `text`, each with its job's name and state."""
    found = _ask(ctx, "jobs", begins=text, limit=_MOST) if text else _ask(ctx, "jobs", limit=_MOST)
    return [
        CompletionItem(job["id"], help=f"{job['name']} {job['state']}")
        for job in found
        if job["id"].startswith(text)
    ]


def nodes(ctx: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Names of nodes that begin with `text`, each with its state."""
    return [
        CompletionItem(node["name"], help=node["state"])
        for node in _ask(ctx, "nodes")[:_MOST]
        if node["name"].startswith(text)
    ]


def targets(_ctx: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Modules of this directory and, behind a colon, the functions of one. None is imported."""
    module, colon, begin = text.partition(":")
    if not colon:
        names = [f"{name}:" for name in _modules(module) if name.startswith(module)]
        return [CompletionItem(name) for name in sorted(names)[:_MOST]]
    return [
        CompletionItem(f"{module}:{name}")
        for name in _functions(Path(*module.split(".")))
        if name.startswith(begin)
    ]


def _modules(text: str) -> Iterator[str]:
    """Modules here, or in the package that `text` is in already, by their dotted names."""
    package = text.rpartition(".")[0]
    place = Path(*package.split(".")) if package else Path()
    for entry in place.iterdir() if place.is_dir() else ():
        name = entry.stem if entry.suffix == ".py" else entry.name
        is_module = entry.suffix == ".py" or (entry / "__init__.py").is_file()
        if is_module and name.isidentifier() and name != "__init__":
            yield f"{package}.{name}" if package else name


def _functions(module: Path) -> list[str]:
    """The public functions at the top of a module's source."""
    import ast  # noqa: PLC0415 - 5 ms that no other use of the command should cost

    for file in (module.with_suffix(".py"), module / "__init__.py"):
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue
        return [
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        ]
    return []


def _ask(ctx: click.Context, what: str, **arguments: Any) -> list[dict[str, Any]]:
    """Ask the broker that the line names so far, or that a command without options would take."""
    from manyhands import Client  # noqa: PLC0415 - so that other completions are quick
    from manyhands.cli import _announced, _settings  # noqa: PLC0415
    from manyhands_shared.errors import ManyhandsError  # noqa: PLC0415

    try:
        given = {name: ctx.params.get(name) or "" for name in ("broker", "key_file")}
        tables = _settings.load_file().tables
        for table in ("client", ctx.info_name or ""):
            for key, value in tables.get(table, {}).items():
                name = key.replace("-", "_")
                given[name] = given.get(name) or value
        found = None if given["broker"] else _announced.find()
        if found is not None:
            given = {"broker": found.address, "key_file": given["key_file"] or found.key_file}
        seconds = _seconds(ctx)
        with Client(
            given["broker"] or None, key_file=given["key_file"] or None, connect_timeout=seconds
        ) as client:
            answer: list[dict[str, Any]] = client._io.ask(what, arguments).result(seconds)
            return answer
    except (ManyhandsError, OSError, TimeoutError):
        return []


def _seconds(ctx: click.Context) -> float:
    """How long the broker has to answer: a moment, unless the user has chosen a time for it."""
    if ctx.get_parameter_source("connect_timeout") in (None, ParameterSource.DEFAULT):
        return _SECONDS
    return float(ctx.params.get("connect_timeout") or _SECONDS)


class _Bash(BashComplete):
    """Bash splits words at colons: here they are put together again."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one to complete, and that one."""
        arguments, incomplete = super().get_completion_args()
        words = [*arguments, incomplete]
        joined: list[str] = []
        glue = False
        for word in words:
            if joined and (glue or word == ":"):
                joined[-1] += word
            else:
                joined.append(word)
            glue = word == ":"
        return joined[:-1], joined[-1]

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """What is offered, without what stands before the last colon: bash keeps that."""
        kept = incomplete.rpartition(":")[0]
        found = super().get_completions(args, incomplete)
        for item in found:
            if kept and str(item.value).startswith(f"{kept}:"):
                item.value = str(item.value)[len(kept) + 1 :]
        return found


def know_colons() -> None:
    """Have bash complete words that have a colon in them."""
    if os.environ["_MANYHANDS_COMPLETE"].startswith("bash"):
        add_completion_class(_Bash)
