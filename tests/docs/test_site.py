"""The documentation site builds, and a broken link or a missing docstring fails it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="make docs has not installed what builds the site")

ROOT = Path(__file__).parents[2]
BUILD = "import sys; sys.path.insert(0, 'tools'); import docs_site; sys.exit(docs_site.main())"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the site is made of."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/docs_site.py", tmp_path / "tools")
    for page in ROOT.glob("*.md"):
        shutil.copy(page, tmp_path)
    return tmp_path


def build(tree: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", before + BUILD],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_site_has_every_page_and_every_public_name(tree: Path) -> None:
    result = build(tree)
    assert result.returncode == 0, result.stderr
    site = tree / "out/site"
    assert (site / "index.html").exists()
    for page in (tree / "docs").glob("*.md"):
        assert (site / page.with_suffix(".html").name).exists()
    api = (site / "api.html").read_text()
    names = ("Pool.map", "Executor.submit", "Client.attach", "LocalCluster", "Job.results")
    for name in (*names, "TaskCrashed", "testbed.Network.partition"):
        assert f'id="manyhands.{name}"' in api
    loaded = [line for file in site.glob("*.html") for line in file.read_text().split("src=")[1:]]
    assert not [line for line in loaded if line.startswith(('"http', '"//'))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n[a](security.md#nowhere)\n", "nowhere"),
        ("\n![a](images/none.svg)\n", "none.svg"),
    ],
)
def test_a_broken_link_fails_the_build(text: str, said: str, tree: Path) -> None:
    with (tree / "docs/quick-start.md").open("a") as page:
        page.write(text)
    result = build(tree)
    assert result.returncode == 1
    assert said in result.stderr


def test_a_page_that_no_list_leads_to_fails_the_build(tree: Path) -> None:
    (tree / "docs/lonely.md").write_text("# Lonely\n")
    result = build(tree)
    assert (result.returncode, "docs/lonely.md" in result.stderr) == (1, True)


def test_a_public_name_without_a_docstring_fails_the_build(tree: Path) -> None:
    result = build(tree, "import manyhands; manyhands.Pool.starmap.__doc__ = None\n")
    assert (result.returncode, "manyhands.Pool.starmap" in result.stderr) == (1, True)
