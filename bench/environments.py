"""A virtual environment for each system, so that no pin of one decides the version of another's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools import venv

from bench.peers import PEERS, Peer

ROOT = Path(os.environ.get("BENCH_ENVIRONMENTS", ".venv/bench"))
#: What the measures themselves need, in every environment.
_MEASURES = ("numpy", "psutil")
_INSTALL_SECONDS = 1_200


def python(name: str) -> Path:
    """The interpreter of a system's environment."""
    return ROOT / PEERS[name].environment / "bin/python"


def prepare(name: str) -> str:
    """Install a system unless it is there. Returns why it cannot be measured, or nothing."""
    peer = PEERS[name]
    place = ROOT / peer.environment
    stamp = place / ".installed"
    wanted = "\n".join((*_MEASURES, *peer.requires))
    if any(requirement.startswith("--editable") for requirement in peer.requires):
        # What it needs itself stands there; and it is this checkout that is measured, no other.
        wanted += f"{Path.cwd()}\n{Path('pyproject.toml').read_text()}"
    if not (stamp.exists() and stamp.read_text() == wanted):
        try:
            problem = _install(place, [*_MEASURES, *peer.requires])
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = str(error)
        if problem:
            return f"it could not be installed: {problem}"
        stamp.write_text(wanted)
    return _missing_program(peer)


def _install(place: Path, requirements: list[str]) -> str:
    if not (place / "bin/pip").exists():
        venv.create(place)
    pip = [str(place / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    arguments = [part for requirement in requirements for part in requirement.split()]
    done = subprocess.run(
        [*pip, "install", *arguments],
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (errors or ["pip failed"])[-1] if done.returncode else ""


def _missing_program(peer: Peer) -> str:
    """Programs that are no Python packages: taken from Debian where this process may."""
    if not peer.programs or any(map(shutil.which, peer.programs)):
        return ""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", peer.package],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdout=subprocess.DEVNULL,
            stderr=sys.stderr,
            check=False,
        )
        if any(map(shutil.which, peer.programs)):
            return ""
    return f"it needs {peer.programs[0]}; install {peer.package}"
