"""Processes that tasks start with `spawn` or `forkserver`: how they come by the `__main__` of the task.

multiprocessing has such a process run the parent's script again. A child has no script, and a script
that makes a pool without a guard must not run again. What the process is told to run instead is a file
of ours that enters the names of the task's `__main__`.
"""

from __future__ import annotations

import contextlib
import pickle
from collections import deque
from collections.abc import Callable
from multiprocessing import spawn, util
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from manyhands_shared.payloads.by_value.main_module import script

_PROGRAM = (
    "from manyhands_shared.payloads.by_value.subprocess_main import names_in\n"
    "globals().update(names_in(__file__))\n"
)
#: Files that are kept. A process may look for its own a while after it was started.
_KEPT = 8
_directories: deque[Path] = deque()


def prepare_inner_processes() -> None:
    """From now on, processes that multiprocessing starts here get the `__main__` of the task."""
    usual: Callable[[str], dict[str, Any]] = spawn.get_preparation_data

    def preparation(name: str) -> dict[str, Any]:
        data = usual(name)
        path = _write_main()
        if path is not None:
            data["init_main_from_path"] = str(path)
        return data

    spawn.get_preparation_data = preparation


def names_in(program: str) -> dict[str, Any]:
    """Return what the `__main__` of a task has, for which `program` was written."""
    names: dict[str, Any] = pickle.loads(Path(program).with_suffix(".pickle").read_bytes())
    return names


def _write_main() -> Path | None:
    """Write the program that enters the names of the present `__main__`; None if there are none."""
    main = script.main
    if main is None:
        return None
    for name in list(main.classes):
        with contextlib.suppress(Exception):  # a class that does not load is missed by who needs it
            getattr(main, name)
    names = {name: value for name, value in vars(main).items() if not name.startswith("__")}
    if not names:
        return None
    with NamedTemporaryFile(
        dir=util.get_temp_dir(), prefix="main-", suffix=".pickle", delete=False
    ) as file:
        file.write(_dumps(names))
    path = Path(file.name).with_suffix(".py")
    path.write_text(_PROGRAM, encoding="utf-8")
    _directories.append(path)
    if len(_directories) > _KEPT:
        old = _directories.popleft()
        old.unlink(missing_ok=True)
        old.with_suffix(".pickle").unlink(missing_ok=True)
    return path


def _dumps(names: dict[str, Any]) -> bytes:
    """Pickle names with their values, without those that cannot be pickled."""
    from manyhands_shared.payloads.by_value.script_pickle import dumps_names  # noqa: PLC0415 - it has cloudpickle with it

    try:
        return dumps_names(names)
    except Exception:  # noqa: BLE001 - each by itself, then, to find those which can
        good: dict[str, Any] = {}
        for name, value in names.items():
            with contextlib.suppress(Exception):
                dumps_names({name: value})
                good[name] = value
        return dumps_names(good)
