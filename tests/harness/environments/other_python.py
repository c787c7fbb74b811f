"""Another Python than this one, with what a node needs: for tests of fleets that are not alike."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_MINORS = range(11, 16)
_PACKAGES = ("annotated-types", "cloudpickle", "msgpack", "numpy", "psutil", "pyzmq")
_PATIENCE = 300.0


def other_python() -> Path:
    """The interpreter of an environment of another minor version, made once in this one's folder.

    Skips the test where there is no other Python, or its packages cannot be had.
    """
    for minor in _MINORS:
        if minor == sys.version_info.minor:
            continue
        found = _interpreter(f"3.{minor}")
        if found is not None:
            return _environment(found, Path(sys.prefix) / f"other-3.{minor}")
    pytest.skip("no other Python of 3.11 or newer on this machine")


def run_in(python: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command and the environment that run it with our sources, and with none of our packages."""
    ours = [path for path in sys.path if path and _is_ours(path)]
    return [str(python), *arguments], {**os.environ, "PYTHONPATH": os.pathsep.join(ours)}


def _is_ours(path: str) -> bool:
    return any(Path(path).glob("manyhands*/__init__.py"))


def _interpreter(version: str) -> Path | None:
    named = shutil.which(f"python{version}")
    candidates = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    for candidate in (*([Path(named)] if named else []), *candidates):
        asked = [str(candidate), "-c", "import sys, ensurepip; print(sys.version_info[:2])"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return candidate
    return None


def _environment(python: Path, place: Path) -> Path:
    ready = place / "ready"
    with (place.parent / f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes of one test run come here at once
        if not ready.exists():
            shutil.rmtree(place, ignore_errors=True)
            steps = (
                [str(python), "-m", "venv", str(place)],
                [str(place / "bin/python"), "-m", "pip", "install", "--quiet", *_PACKAGES],
            )
            for step in steps:
                try:
                    done = subprocess.run(
                        step, capture_output=True, text=True, timeout=_PATIENCE, check=False
                    )
                except subprocess.TimeoutExpired:
                    pytest.skip(f"{python} gets no packages within {_PATIENCE:g} s")
                if done.returncode:
                    pytest.skip(f"{python} gets no packages: {done.stderr.strip()[-200:]}")
            ready.touch()
    return place / "bin/python"
