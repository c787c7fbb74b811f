"""The command `ip`."""

from __future__ import annotations

import subprocess

from manyhands_shared.errors import ManyhandsError

_SECONDS = 30.0


class IpError(ManyhandsError):
    """The command `ip` did not do what it was told."""


def ip(*arguments: str) -> str:
    """Run it; what it printed.

    Raises:
        IpError: it failed; the text is what it said.
    """
    try:
        done = subprocess.run(
            ["ip", *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise IpError(f"ip {' '.join(arguments)}: {error}") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise IpError(f"ip {' '.join(arguments)}: {said}")
    return done.stdout
