"""A recorded run is a drawing of what was printed, and loads nothing."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools/record.py"


def test_a_command_is_drawn_with_what_it_prints(tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    said = "import sys; print('seventeen'); print('aside', file=sys.stderr); sys.exit(3)"
    command = [sys.executable, "-c", said]
    done = subprocess.run(
        [sys.executable, TOOL, picture, "the title", *command], check=False, timeout=120
    )
    assert done.returncode == 3
    drawn = picture.read_text()
    words = "".join(ET.fromstring(drawn).itertext())
    assert "seventeen" in words
    assert "the\xa0title" in words
    assert "url(" not in words.replace("url(#", "")
    assert "@font-face" not in drawn
