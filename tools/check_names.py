"""Check that the files and names on a page are in the code.

    python tools/check_names.py docs/architecture.md

Each path between backticks must exist. In a row of a table, each name behind a Python file must be a
class, function, method or constant of that file.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"^[\w.-]+(?:/[\w.-]+)*/(?:[\w-]+\.\w+)?$")
_NAME = re.compile(r"^[A-Za-z_]\w*(?:\.\w+)*$")


def problems(page: Path) -> Iterator[str]:
    """Yield one line for each path or name on a page that leads nowhere."""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        file: Path | None = None
        for code in _CODE.findall(line):
            if _PATH.match(code):
                file = Path(code)
                if not file.exists():
                    yield f"{page}:{number}: {code} does not exist"
            elif file is None or not line.startswith("|"):
                continue
            elif file.is_file() and _NAME.match(code) and code not in names(file):
                yield f"{page}:{number}: {file} has no {code}"


@cache
def names(file: Path) -> frozenset[str]:
    """Return what a module defines: `function`, `CONSTANT`, `Class`, `Class.method`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(_defined(tree.body, ""))


def _defined(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield prefix + name
            case ast.ClassDef(name=name):
                yield prefix + name
                yield from _defined(node.body, f"{prefix}{name}.")
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name


def main(pages: list[str]) -> int:
    """Print what is wrong; 1 if anything is."""
    found = [problem for page in pages for problem in problems(Path(page))]
    print("\n".join(found) or f"names of {len(pages)} pages are in the code")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
