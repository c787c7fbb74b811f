"""Check that no file imports itself by way of others.

    python tools/circles.py

Reads the imports at the top of each module. Those for type checkers alone count too, but for the files
of `TYPING`, whose objects refer to each other both ways. Imports within functions do not count.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = (
    "broker/manyhands_broker",
    "client/manyhands",
    "shared/manyhands_shared",
    "worker/manyhands_worker",
)
_CORE = "manyhands_broker.core"
#: Files between which imports for type checkers may circle, by the beginnings of their names.
TYPING: tuple[tuple[str, ...], ...] = ((f"{_CORE}.model.",),)

Graph = dict[str, set[str]]


def main() -> int:
    """Print each circle; return an exit code."""
    modules = dict(_modules())
    at_run_time = circles(graph(modules, typing=False))
    for circle in at_run_time:
        print(f"imports circle: {' '.join(circle)}")
    found = [circle for circle in circles(graph(modules, typing=True)) if circle not in at_run_time]
    wrong = [circle for circle in found if not _may_circle(circle)]
    for circle in wrong:
        print(f"imports for type checkers circle: {' '.join(circle)}")
    if not at_run_time and not wrong:
        print(f"no circles among {len(modules)} files")
    return 1 if at_run_time or wrong else 0


def _may_circle(circle: list[str]) -> bool:
    return any(all(name.startswith(places) for name in circle) for places in TYPING)


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for package in map(Path, PACKAGES):
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package.parent).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def graph(modules: dict[str, ast.Module], *, typing: bool) -> Graph:
    """Return which module imports which; `typing`: also those that type checkers alone see."""
    found: Graph = {}
    for name, tree in modules.items():
        targets = set()
        for imported in _imports(tree.body, typing=typing):
            # A name of a package, if it is no module, comes from the package itself.
            target = imported if imported in modules else imported.rpartition(".")[0]
            if target in modules and target != name:
                targets.add(target)
        found[name] = targets
    return found


def _imports(body: list[ast.stmt], *, typing: bool) -> Iterator[str]:
    for statement in body:
        match statement:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.If(ast.Name("TYPE_CHECKING"), then, otherwise):
                yield from _imports(then if typing else otherwise, typing=typing)
            case ast.If(_, then, otherwise) | ast.Try(body=then, finalbody=otherwise):
                yield from _imports([*then, *otherwise], typing=typing)


def circles(graph: Graph) -> list[list[str]]:
    """Return the sets of modules that import each other, by way of others or not (Tarjan)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        numbers[name] = lowest[name] = len(numbers)
        waiting.append(name)
        for target in sorted(graph[name]):
            if target not in numbers:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in waiting:
                lowest[name] = min(lowest[name], numbers[target])
        if lowest[name] == numbers[name]:
            at = waiting.index(name)
            circle = sorted(waiting[at:])
            del waiting[at:]
            if len(circle) > 1:
                found.append(circle)

    for name in sorted(graph):
        if name not in numbers:
            visit(name)
    return sorted(found)


if __name__ == "__main__":
    sys.exit(main())
