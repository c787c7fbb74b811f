"""Pin every package that is installed, with the hashes of its files: for all platforms and Pythons.

    python tools/lock.py            # what pyproject.toml asks for, versions kept where they still do
    python tools/lock.py --upgrade  # the newest versions

Writes the lock files that `LOCKS` names. Needs uv.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST = "3.11"

FIRST = "deploy/requirements.lock"
#: Each lock file with the extras that it is for; the one for none has what builds the package.
LOCKS = {
    FIRST: ["all"],
    "deploy/build.lock": [],
    "tools/requirements.lock": ["test", "check"],
    "tools/audit.lock": ["audit"],
    "tools/docs.lock": ["docs"],
}
#: What builds the package, and installs it editable.
BUILD = ["hatchling>=1.24", "editables>=0.5"]


def main(*options: str) -> int:
    """Write the lock files; returns an exit code."""
    for file, extras in LOCKS.items():
        source = ["pyproject.toml", *(f"--extra={extra}" for extra in extras)] if extras else ["-"]
        command = [sys.executable, "-m", "uv", "pip", "compile", *source, "--quiet", "--universal"]
        command += ["--python-version", OLDEST, "--generate-hashes", "--no-annotate"]
        command += ["--no-header", "--output-file", file, *options]
        if file != FIRST:
            command += ["--constraint", FIRST]  # one version of each package, wherever it is
        done = subprocess.run(
            command, cwd=ROOT, input="\n".join(BUILD), text=True, check=False, timeout=300
        )
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
