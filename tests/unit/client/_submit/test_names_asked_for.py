"""What a function may ask for by its name travels with it, and a change of that is seen."""

from __future__ import annotations

import json
import pickle
import sys
import types
from typing import Any

import pytest

from manyhands._submit import functions
from manyhands._submit.fingerprint import Fingerprint

BY_NAME = """
import pickle
from pickle import loads as unpack
class Settings:
    rate = 1
    table = [1]
    class Inner: pass
inner, total, table = Settings.Inner, 1, [1]
def helper(): return table
def no_text(row): return len(row)
def column(row): return row["total"]
"""


def main_script(monkeypatch: pytest.MonkeyPatch, source: str) -> dict[str, Any]:
    """Return the globals of a script that is `__main__` here."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    exec(compile(BY_NAME + source, "script", "exec", dont_inherit=True), vars(module))
    return vars(module)


@pytest.mark.parametrize(
    ("source", "change"),
    [
        ("def f(x: 'Settings'): pass", "Settings.rate = 2"),
        ("def f(x: 'list[Settings]'): pass", "Settings.table.append(2)"),
        ("class Data:\n    x: 'Settings'\ndef f(): return Data", "Settings.rate = 2"),
        ("def f():\n    class Local:\n        x: 'Settings'", "Settings.rate = 2"),
        ("def f(x: 'Late'): pass", "class Late: pass"),
        ("def f(x: 'total'): pass", "class total: pass"),
        ("def f(): return inner", "Settings.rate = 2"),
        ("def f(): return g()\ndef g(x: 'Settings' = 1): pass", "Settings.rate = 2"),
        ("def f(x): return pickle.loads(x)", "Settings.rate = 2"),
        ("def f(x): return pickle.loads(x)", "Settings.table.append(2)"),
        ("def f(x): return pickle.loads(x)", "class Late: pass"),
        ("def f(x): return pickle.loads(x)", "table.append(2)"),
        ("def f(x): return pickle.loads(x)", "def late(): pass"),
        ("def f(x): return unpack(x)", "Settings.table.append(2)"),
        ("def f(x):\n    import pickle\n    return pickle.loads(x)", "Settings.rate = 2"),
        ("def f(x):\n    from pickle import loads\n    return loads(x)", "Settings.rate = 2"),
        ("import json\ndef f(x): return pickle.loads(json.loads(x))", "Settings.rate = 2"),
    ],
)
def test_what_a_function_may_ask_for_by_name_is_seen_when_it_changes(
    source: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = main_script(monkeypatch, source)
    fingerprint = Fingerprint(space["f"])
    before = functions.pack(space["f"])
    assert fingerprint.holds()
    exec(change, space)
    assert not fingerprint.holds()
    assert functions.pack(space["f"]).digest != before.digest
    assert Fingerprint(space["f"]).holds()


@pytest.mark.parametrize(
    "source",
    [
        "f = no_text",
        "f = column",
        "import json\ndef f(x): return json.loads(x)",
        "from json import loads as parse\ndef f(x): return parse(x)",
        "from json import loads\ndef f(x): return loads(x)",
        "def f(x):\n    import json\n    return json.loads(x)",
        "def f(x):\n    from json import dumps, loads\n    return loads(dumps(x))",
    ],
)
def test_what_a_function_does_not_ask_for_may_change(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = main_script(monkeypatch, source)
    fingerprint = Fingerprint(space["f"])
    exec("Settings.rate, total = 2, 3\ntable.append(1)\nclass Late: pass", space)
    assert fingerprint.holds()


@pytest.mark.parametrize(
    "change", ["Settings.rate = 2", "Settings.table.append(2)", "class L: pass"]
)
def test_a_function_of_a_module_that_unpickles_has_the_classes_as_they_are(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = main_script(monkeypatch, "")
    fingerprint = functions.fingerprint(pickle.loads)
    assert fingerprint is not None
    before = functions.pack(pickle.loads)
    assert fingerprint.holds()
    exec(change, space)
    assert not fingerprint.holds()
    assert functions.pack(pickle.loads).digest != before.digest


@pytest.mark.parametrize("function", [json.loads, json.load, len, dict])
def test_other_functions_of_modules_need_no_fingerprint(function: Any) -> None:
    assert functions.fingerprint(function) is None
