"""Create the virtual environment of a checkout and install manyhands into it, editable.

    python3 tools/venv.py .venv all
    python3 tools/venv.py .venv test,check

Uses the standard library alone, for it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
#: Where the packages of these extras are pinned.
LOCKS = {
    "all": "deploy/requirements.lock",
    "test,check": "tools/requirements.lock",
    "audit": "tools/audit.lock",
    "docs": "tools/docs.lock",
}


def main(place: str, extras: str) -> None:
    """Make the environment at `place` if there is none; install the given extras."""
    if sys.version_info < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        fail(f"Python {wanted} or newer is needed; set one with: make PYTHON=python{wanted}")
    venv = Path(place)
    if not (venv / "bin/pip").exists():
        say(f"creating {venv}")
        create(venv)
    say(f"installing manyhands[{extras}] into {venv}")
    pip = [str(venv / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    # Exactly the files that tools/lock.py has pinned; the package itself comes without asking for more.
    pinned = ["--requirement", LOCKS[extras], "--requirement", "deploy/build.lock"]
    alone = ["--no-deps", "--no-build-isolation", "--editable", "."]
    for what in (["--require-hashes", *pinned], alone):
        if run([*pip, "install", *what]):
            fail("pip could not install what is needed; its message stands above")


def create(venv: Path) -> None:
    """A virtual environment with pip; on Debian that may need a package first."""
    if not _created(venv):
        # Debian keeps ensurepip, which puts pip into new environments, in a package of its own.
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        apt = shutil.which("apt-get")
        if os.geteuid() == 0 and apt:
            say(f"this Python cannot create environments with pip: installing {package}")
            run([apt, "update", "-qq"])
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            run([apt, "install", "-y", "-qq", "--no-install-recommends", package], quiet)
        if not _created(venv):
            fail(f"this Python cannot create environments with pip; run: apt-get install {package}")


def _created(venv: Path) -> bool:
    command = [sys.executable, "-m", "venv", "--clear", str(venv)]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


def run(command: list[str], env: dict[str, str] | None = None) -> int:
    """Run a command in sight of the user, and return its exit code."""
    return subprocess.run(command, stdout=sys.stderr, env=env, check=False).returncode


def say(text: str) -> None:
    """Tell what happens."""
    print(f"manyhands: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> None:
    """End with one line."""
    sys.exit(f"error: {text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
