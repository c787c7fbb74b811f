"""Nothing that a member or a client sends is unpickled by a host agent."""

from __future__ import annotations

import ast
from pathlib import Path

import manyhands_worker.agent
from manyhands_shared import coordination

#: What runs in the member's own process, where its program's objects are loaded.
OF_MEMBERS = {"dedicated.py"}
UNPICKLERS = {"pickle", "cloudpickle", "marshal", "dill", "shelve"}


def test_no_module_of_the_agent_can_unpickle() -> None:
    folders = [*manyhands_worker.agent.__path__, *coordination.__path__]
    modules = [path for folder in folders for path in Path(folder).rglob("*.py")]
    assert len(modules) > 10
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{one.name}" for one in node.names)]
            for name in names:
                assert not UNPICKLERS & set(name.split(".")), f"{path.name} imports {name}"
                assert "payloads.pickled" not in name, f"{path.name} imports {name}"
                if path.name not in OF_MEMBERS:
                    assert not name.startswith("manyhands."), f"{path.name} imports {name}"
