"""What tests share is in the harness: a test module or a conftest is imported by pytest alone."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]


def imported(file: Path) -> set[str]:
    """The full names of all that a file imports, at its top or within its functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {f"{alias.name}." for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_nothing_imports_a_conftest_or_a_test_module() -> None:
    files = [file for part in ("tests", "bench", "tools") for file in (ROOT / part).rglob("*.py")]
    assert len(files) > 100
    wrong = [
        f"{file.relative_to(ROOT)} imports {name.rstrip('.')}"
        for file in files
        for name in imported(file)
        if any(part == "conftest" or part.startswith("test_") for part in name.split(".")[:-1])
    ]
    assert wrong == []
