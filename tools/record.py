"""Run a command and draw what it prints as a terminal: an SVG that loads nothing from anywhere.

    python tools/record.py docs/images/demo.svg 'make demo' python examples/demo.py

Progress bars and everything else on standard error are left out.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 96
#: The drawing names a font to fetch; a page that is read without a network has its own.
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def main(picture: str, title: str, *command: str) -> int:
    """Run `command` and draw it under `title`; return its exit code."""
    # Colours as on a terminal, but no cursor that moves.
    environment = {**os.environ, "FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(WIDTH)}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=600
    )
    Path(picture).write_text(drawing(f"$ {title}\n{done.stdout.rstrip()}", title), encoding="utf-8")
    return done.returncode


def drawing(text: str, title: str) -> str:
    """Return the text of a terminal, colours and all, as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text))
    return _FONT.sub("", console.export_svg(title=title, unique_id="terminal"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
