"""Modules are looked through while other threads import."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from manyhands_shared.payloads.by_value.dynamic_modules import names_made_at_run_time


class ImportsAnother(ModuleType):
    """What happens while it is looked at: another thread has imported a module."""

    @property
    def __spec__(self) -> None:  # type: ignore[override]
        sys.modules.setdefault("imported_meanwhile", ModuleType("imported_meanwhile"))


def test_a_module_that_comes_while_they_are_looked_through_is_found_by_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "imported_meanwhile", ModuleType("imported_meanwhile"))
    monkeypatch.delitem(sys.modules, "imported_meanwhile")
    monkeypatch.setitem(sys.modules, "imports_another", ImportsAnother("imports_another"))
    assert b"imported_meanwhile" not in names_made_at_run_time()
    assert b"imported_meanwhile" in names_made_at_run_time()
