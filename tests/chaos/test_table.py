"""The page that maps each fault to its tests names tests that exist, and leaves no fault out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "guarantees-faults.md"
FAULTS = range(1, 76)
#: Those that need a standby broker or a database.
_MAY_BE_OPEN = {18, 19, 20, 21}


def rows() -> dict[int, list[str]]:
    """The cells of each row, by its number."""
    found: dict[int, list[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0].isdigit():
            assert int(cells[0]) not in found, f"row {cells[0]} is there twice"
            found[int(cells[0])] = cells
    return found


@cache
def functions(file: Path) -> frozenset[str]:
    """Names of the functions that a test module defines."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_no_fault_is_left_out() -> None:
    assert list(rows()) == list(FAULTS)


@pytest.mark.parametrize("number", FAULTS)
def test_each_fault_has_tests_that_exist_or_a_reason(number: int) -> None:
    tests = re.findall(r"`([^`]+)`", rows()[number][3])
    if not tests:
        assert number in _MAY_BE_OPEN
        assert re.match(r"Not covered: \w.*\.", rows()[number][3])
    for test in tests:
        file, _, name = test.partition("::")
        assert name in functions(TESTS / file), f"{test} does not exist"
