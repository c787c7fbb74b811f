"""The modules of a bundle in a child: where they come from, and what is refused."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads import bundle
from manyhands_shared.payloads.bundle import File
from manyhands_worker.child.client_modules import ClientModules
from manyhands_worker.values.bundle_directories import BundleDirectories


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave no module of a bundle behind."""
    modules, path, finders = set(sys.modules), sys.path[:], sys.meta_path[:]
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    bundle.activate(list, frozenset())


def enter(folder: Path, *files: File, modules: ClientModules | None = None) -> str:
    """Have these files as a bundle; return what `enter` says."""
    payload = bundle.dump(files)
    digest = bundle.digest_of(payload)
    return (modules or ClientModules()).enter(str(folder / digest.hex()), digest, payload)


def test_modules_come_from_the_bundle_before_others(tmp_path: Path) -> None:
    (tmp_path / "travelled.py").write_text("V = 'of this machine'")
    sys.path.insert(0, str(tmp_path))
    files = [
        File(
            "travelled.py", "/nowhere/travelled.py", b"V = 'of the client'\ndef f(): raise KeyError"
        ),
        File("travelled_package/__init__.py", "/nowhere/p/__init__.py", b"from . import inner"),
        File("travelled_package/inner.py", "/nowhere/p/inner.py", b"V = 1"),
    ]
    assert enter(tmp_path, *files) == ""
    module: Any = importlib.import_module("travelled")
    assert module.V == "of the client"
    assert Path(module.__file__).read_bytes() == files[0].data
    package: Any = importlib.import_module("travelled_package")
    assert package.inner.V == 1
    # What a program in a task sends on is the very same.
    assert sorted(bundle.active()) == sorted(files)
    assert "travelled_package.inner" in bundle.active_names()


def test_file_that_is_here_as_well_is_named_and_another_is_not(tmp_path: Path) -> None:
    for name in ("same", "other"):
        (tmp_path / f"{name}_here.py").write_text(f"V = '{name}'")
    same, other = (tmp_path / f"{name}_here.py" for name in ("same", "other"))
    files = [
        File("same_here.py", str(same), same.read_bytes()),
        File("other_here.py", str(other), b"V=2"),
    ]
    assert enter(tmp_path / "node", *files) == ""
    one: Any = importlib.import_module("same_here")
    two: Any = importlib.import_module("other_here")
    assert one.__file__ == one.__spec__.origin == str(same)
    assert (two.V, two.__file__ == str(other)) == (2, False)


def test_process_that_has_another_module_of_that_name_is_refused(tmp_path: Path) -> None:
    modules = ClientModules()
    (tmp_path / "stale_one.py").write_text("V = 'old'")
    sys.path.insert(0, str(tmp_path))
    importlib.import_module("stale_one")
    words = enter(tmp_path, File("stale_one.py", "", b"V = 'new'"), modules=modules)
    assert words == "needed another stale_one than the one that this child had loaded"


def test_false_or_hostile_payload_leaves_nothing(tmp_path: Path) -> None:
    payload = bundle.dump([File("a.py", "", b"")])
    with pytest.raises(ProtocolError, match="not what the job names"):
        ClientModules().enter(str(tmp_path / "x"), b"0" * 16, payload)
    evil = payload.replace(b"a.py", b"../e")
    with pytest.raises(ProtocolError):
        ClientModules().enter(str(tmp_path / "x"), bundle.digest_of(evil), evil)
    assert list(tmp_path.iterdir()) == []


def test_directories_used_longest_ago_are_removed_unless_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multiprocessing.util.get_temp_dir", lambda: str(tmp_path))
    directories = BundleDirectories(limit=250)
    names = [bytes([number]) * 16 for number in range(4)]
    places = []
    for name in names[:3]:
        places.append(directories.use(name, 100, {names[0]}))
        places[-1].mkdir()
        (places[-1] / "a.py").write_text("")
    assert [place.exists() for place in places] == [True, False, True]
    directories.use(names[3], 100, set())
    assert [place.exists() for place in places] == [False, False, True]
    directories.use(names[2], 100, set())
    assert places[2].exists()
