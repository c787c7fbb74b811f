"""Check that files and folders stay small enough to be read.

    python tools/sizes.py

No source file has more than 500 lines, and no folder more than 14 modules. `__init__` and `__main__` do
not count, nor do programs whose names no `import` can say. `EXEMPT` names the other exceptions, and why.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

MOST_LINES = 500
MOST_MODULES = 14
SOURCES = (".css", ".html", ".js", ".py", ".sh")
#: Folders that may have more modules.
EXEMPT = {
    "client/manyhands/cli": "one module a command",
    "client/manyhands/multiprocessing": "the standard package's module names",
}


def main() -> int:
    """Print what is too large; return an exit code."""
    paths = [path for path in map(Path, _tracked()) if path.suffix in SOURCES and path.is_file()]
    wrong = [*_long_files(paths), *_full_folders(paths)]
    for line in wrong:
        print(line)
    if not wrong:
        print(f"{len(paths)} files have {MOST_LINES} lines at most, folders {MOST_MODULES} modules")
    return 1 if wrong else 0


def _tracked() -> list[str]:
    """Return the files of the checkout, those that are new to git too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()


def _long_files(paths: Iterable[Path]) -> list[str]:
    lines = {path: path.read_bytes().count(b"\n") for path in paths}
    return [
        f"{path}: {count} lines, {MOST_LINES} at most: cut it along its subjects"
        for path, count in lines.items()
        if count > MOST_LINES
    ]


def _full_folders(paths: Iterable[Path]) -> list[str]:
    modules: dict[str, int] = defaultdict(int)
    for path in paths:
        is_module = path.suffix == ".py" and path.stem.isidentifier()
        modules[path.parent.as_posix()] += is_module and not path.stem.startswith("__")
    return [
        f"{folder}: {count} modules, {MOST_MODULES} at most: make a folder of one subject's"
        for folder, count in modules.items()
        if count > MOST_MODULES and folder not in EXEMPT
    ]


if __name__ == "__main__":
    sys.exit(main())
