"""What a module's source imports, at its top or inside functions, without running it."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator


def imports_of(source: bytes, package: str) -> list[str]:
    """Return the full names of modules that a source may import; it may name more than modules.

    Args:
        source: the module's.
        package: what relative imports start from; empty for a module of no package.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        # Who imports it will hear of that.
        return []
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        for name in _names(node, package):
            if name.partition(".")[0] not in sys.stdlib_module_names:
                found.update(dict.fromkeys(_with_parents(name)))
    return list(found)


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            try:
                base = importlib.util.resolve_name("." * node.level + base, package)
            except ImportError:
                return
        yield base
        # A name may be a submodule.
        yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))
