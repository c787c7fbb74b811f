"""The `__init__` of a package holds a docstring alone, or each import of a module loads its neighbours.

The exceptions are packages whose face is what others import.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("broker", "client", "shared", "worker")
#: Packages with a face, and what it is.
FACES = {
    "broker/manyhands_broker/core": "the scheduler, its events and effects",
    "broker/manyhands_broker/journal": "what a journal is, and the one in memory",
    "client/manyhands": "the public names, loaded when they are used",
    "client/manyhands/_session": "the session",
    "client/manyhands/cli": "the command's entry point",
    "client/manyhands/multiprocessing": "the names of the standard package",
    "client/manyhands/testbed": "the public names of the test-bed",
    "shared/manyhands_shared": "the versions",
    "shared/manyhands_shared/protocol/messages": "every message",
    "shared/manyhands_shared/protocol/messages/coordination": "every message of programs",
    "shared/manyhands_shared/shm": "the public names of the package",
    "shared/manyhands_shared/transport/link": "the right kind of link for an address",
}


def test_a_package_holds_a_docstring_alone() -> None:
    files = [file for part in PARTS for file in (ROOT / part).rglob("__init__.py")]
    trees = {
        file.parent.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
        for file in files
    }
    assert [name for name, tree in trees.items() if not ast.get_docstring(tree)] == []
    assert {name for name, tree in trees.items() if len(tree.body) > 1} == FACES.keys()
