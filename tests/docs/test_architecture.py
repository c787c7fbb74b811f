"""The page on the architecture names files and functions that exist, and the check sees others."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/check_names.py"
PAGE = ROOT / "docs/architecture.md"


def check(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TOOL, page],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_page_follows_a_task_through_files_that_exist() -> None:
    result = check(PAGE, ROOT)
    assert result.returncode == 0, result.stdout
    text = PAGE.read_text()
    task, large = (
        re.findall(r"^\| [^|]+ \| `([^`|]+)` \|", section, re.MULTILINE)
        for section in re.split(r"^## ", text, flags=re.MULTILINE)
        if section.startswith("The life of one")
    )
    # From the client over the broker to the node and its child, and back.
    ways = [list(dict.fromkeys(path.split("/")[0] for path in steps)) for steps in (task, large)]
    assert ways == [["client", "broker", "worker"], ["worker", "broker", "shared", "client"]]
    assert task[0].startswith("client/")
    assert task[-1].startswith("client/")
    for named in ("heartbeat/process.py", "pool/pool.py", "ipc/slab.py"):
        assert named in text


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("`code/none.py` is one", "code/none.py does not exist"),
        ("`none/` too", "none/ does not exist"),
        ("| step | `code/module.py` | `Kind.other` |", "code/module.py has no Kind.other"),
        ("| step | `code/module.py` | `NUMBER`, `method` |", "code/module.py has no method"),
    ],
)
def test_what_is_not_there_is_named(line: str, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/module.py").write_text(
        "NUMBER = 1\n\nclass Kind:\n    def method(self): ...\n\ndef function(): ...\n"
    )
    page = tmp_path / "page.md"
    page.write_text("| step | `code/module.py` | `NUMBER`, `Kind.method`, `function` |\n`code/`\n")
    assert check(page, tmp_path).returncode == 0
    with page.open("a") as text:
        text.write(f"{line}\n")
    result = check(page, tmp_path)
    assert (result.returncode, result.stdout) == (1, f"{page}:3: {wrong}\n")
