"""Which modules of a program go along, and when there is another bundle."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.processes import calls_of, eventually
from manyhands._code.program import ProgramCode
from manyhands._code.user_files import origin_of, path_in_bundle
from manyhands_shared.errors import SubmitError
from manyhands_shared.payloads import bundle
from manyhands_shared.protocol.messages import Function


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with modules that can be imported; they are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def program() -> ProgramCode:
    """The code of this program, without what other tests have imported."""
    code = ProgramCode()
    code._seen.update(sys.modules)
    return code


def files(code: Function | None) -> dict[str, bytes]:
    """Return the files of a bundle."""
    assert code is not None
    assert bundle.digest_of(code.bodies[0]) == code.digest
    return {file.path: file.data for file in bundle.load(code.bodies[0]).modules}


def digest_of(code: Function | None) -> bytes:
    """Return the name of a bundle."""
    assert code is not None
    return code.digest


def is_settled(program: ProgramCode) -> bool:
    """Whether a change of any of its files would be seen."""
    return all(module.signature is not None for module in program._modules.values())


def test_program_of_installed_modules_brings_nothing(program: ProgramCode) -> None:
    import html.parser  # noqa: F401

    assert program.current() is None


def test_modules_come_as_they_are_imported_with_what_they_import_later(
    folder: Path, program: ProgramCode
) -> None:
    (folder / "one.py").write_text("def f():\n    import two, json.tool, numpy.nothing\n")
    (folder / "two.py").write_text("from package import inner")
    (folder / "never.py").write_text("")
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "inner.py").write_text("from . import beside\nfrom .. import what")
    (folder / "package" / "beside.py").write_text("def (")
    assert program.current() is None
    importlib.import_module("one")
    found = files(program.current())
    package = ["package/__init__.py", "package/beside.py", "package/inner.py"]
    assert sorted(found) == ["one.py", *package, "two.py"]
    assert program.current() is program.current()


def test_changed_file_is_another_bundle_however_soon_and_like_it_is(
    folder: Path, program: ProgramCode
) -> None:
    path = folder / "module_that_changes.py"
    path.write_text("V = 0")
    importlib.import_module("module_that_changes")
    seen = [digest_of(program.current())]
    for version in range(1, 9):
        path.write_text(f"V = {version}")
        now = program.renew()
        assert files(now) == {"module_that_changes.py": b"V = %d" % version}
        seen.append(digest_of(now))
    assert len(set(seen)) == len(seen)
    # The same files make the same bundle, whatever was in between.
    path.write_text("V = 0")
    assert digest_of(program.renew()) == seen[0]


def test_files_that_are_as_they_were_are_not_read_again(
    folder: Path, program: ProgramCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "module_that_stays.py"
    path.write_text("V = 0")
    importlib.import_module("module_that_stays")
    eventually(lambda: program.renew() and is_settled(program), what="it can be told by its times")
    now = program._search_at
    clock = SimpleNamespace(monotonic=lambda: now, time_ns=time.time_ns, thread_time=lambda: 0.0)
    monkeypatch.setattr("manyhands._code.program.time", clock)
    code = program.renew()
    read = calls_of(monkeypatch, ProgramCode, "renew")
    # Behind the pause, but before the next search.
    now = program._search_at - 0.001
    assert now > program._until
    assert program.current() is code
    assert read == []
    path.write_text("V = 10")
    now += 0.0009
    assert files(program.current()) == {"module_that_stays.py": b"V = 10"}
    assert len(read) == 1


def test_file_that_is_gone_travels_as_it_was(folder: Path, program: ProgramCode) -> None:
    path = folder / "module_to_go.py"
    path.write_text("V = 1")
    importlib.import_module("module_to_go")
    assert files(program.current()) == {"module_to_go.py": b"V = 1"}
    path.unlink()
    assert files(program.renew()) == {"module_to_go.py": b"V = 1"}


def test_too_much_is_refused_by_the_largest_file(
    folder: Path, program: ProgramCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "large_module.py").write_text("#" * 10_000)
    importlib.import_module("large_module")
    monkeypatch.setattr(bundle, "MAX_BYTES", 5_000)
    with pytest.raises(SubmitError, match=r"large_module.py \(9 KiB\).*MANYHANDS_CODE=0"):
        program.current()


def test_too_much_is_refused_again_and_again(
    folder: Path, program: ProgramCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "small_module.py").write_text("")
    (folder / "large_module.py").write_text("#" * 10_000)
    # Old enough to have a signature.
    monkeypatch.setattr("manyhands._code.program.is_recent", lambda *_: False)
    for pause in ("PAUSE_SECONDS", "SEARCH_SECONDS"):
        monkeypatch.setattr(f"manyhands._code.program.{pause}", 3_600.0)
    importlib.import_module("small_module")
    assert program.current() is not None
    monkeypatch.setattr(bundle, "MAX_BYTES", 1_000)
    importlib.import_module("large_module")
    for _ in range(3):
        with pytest.raises(SubmitError, match="large_module"):
            program.current()


def test_nothing_travels_if_the_environment_says_so(
    folder: Path, program: ProgramCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "left_here.py").write_text("")
    importlib.import_module("left_here")
    monkeypatch.setenv("MANYHANDS_CODE", "0")
    assert program.current() is None


def test_whose_a_module_is(folder: Path) -> None:
    for name, here in {
        "mine": True,
        "json": False,
        "msgpack": False,
        "manyhands.pool": False,
    }.items():
        (folder / "mine.py").write_text("")
        module = importlib.import_module(name)
        assert bool(origin_of(name, module.__spec__)) is here, name


def test_module_that_a_distribution_owns_stays_wherever_it_is_installed(folder: Path) -> None:
    for name in ("owned", "free"):
        (folder / f"{name}.py").write_text("")
    (folder / "owned-1.dist-info").mkdir()
    (folder / "owned-1.dist-info" / "METADATA").write_text("Name: owned\nVersion: 1\n")
    (folder / "owned-1.dist-info" / "RECORD").write_text(
        "owned.py,,\nowned-1.dist-info/METADATA,,\n"
    )
    specs = {name: importlib.import_module(name).__spec__ for name in ("owned", "free")}
    assert [name for name, spec in specs.items() if origin_of(name, spec)] == ["free"]


def test_places_of_files_follow_from_the_names_of_modules() -> None:
    assert path_in_bundle("a.b", "/x/b.py", is_package=False) == "a/b.py"
    assert path_in_bundle("a.b", "/x/b/__init__.py", is_package=True) == "a/b/__init__.py"
    fast = path_in_bundle("a.fast", "/x/fast.cpython-311-x.so", is_package=False)
    assert fast == "a/fast.cpython-311-x.so"


def test_submitting_loads_little_more(tmp_path: Path) -> None:
    script = (
        "import sys, json, manyhands._code.program as p; before = set(sys.modules); p.program.current();"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all("sysconfig" in name for name in json.loads(ended.stdout))
