"""`Requirements`, as users write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manyhands import Requirements
from manyhands.options import job_options
from manyhands_shared.errors import ConfigError
from manyhands_shared.protocol import labels

SCRIPT = """#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "numpy==2.1",
#
#   "scipy",
# ]
# ///
# /// other
# x = 1
print("# /// is no line of its own")
"""


def test_a_script_has_them_as_inline_metadata(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("# /// other\n# x = 1\n", ""))
    found = Requirements.from_script(script, {"UNIT": "m"})
    assert found.lines == ("numpy==2.1", "scipy")
    assert found.python == labels.PYTHON
    assert found.variables == {"UNIT": "m"}
    assert labels.python() in found.labels
    options = job_options(environment=found)
    assert options.requirements == found.lines
    assert options.labels == found.labels
    assert options.wanted is not None
    assert options.wanted.environment == (("UNIT", "m"),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("print()", "no block of metadata"),
        (SCRIPT + SCRIPT, "more than one block"),
        ("# /// script\n# dependencies = []\n", "has no end"),
        ("# /// script\n# dependencies = [\n# ///\n", "is no TOML"),
        ("# /// script\n# dependencies = 'numpy'\n# ///\n", "no list of texts"),
    ],
)
def test_what_a_script_lacks_is_said(tmp_path: Path, text: str, why: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(text)
    with pytest.raises(ConfigError, match=why):
        Requirements.from_script(script)


def test_a_script_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.py cannot be read: No such file"):
        Requirements.from_script(tmp_path / "nowhere.py")


def test_a_file_has_them(tmp_path: Path) -> None:
    listed = tmp_path / "requirements.txt"
    listed.write_text(
        "# what we need\nnumpy==2.1  # the newest\nscipy \\\n  --hash=sha256:ab\n\n"
        "-i https://x/simple\n--find-links=/wheels\n"
    )
    found = Requirements.from_file(listed, more=["pandas"])
    assert found.lines == (
        "numpy==2.1",
        "pandas",
        "scipy --hash=sha256:ab",
        "--index-url https://x/simple",
        "--find-links /wheels",
    )
    listed.write_text("-r other.txt\n")
    with pytest.raises(ConfigError, match="'-r' is no option of requirements"):
        Requirements.from_file(listed)


@pytest.mark.parametrize(
    ("packages", "options", "why"),
    [
        (["-r x"], {}, "no package"),
        ([3], {}, "no package"),
        (["a\nb -r x"], {"python": "3"}, "a version as 3.12"),
        (["a"], {"find_links": "/wheels"}, "takes a list"),
        (["x" * 600], {}, "1 to 500 characters"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    packages: list[Any], options: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        Requirements(*packages, **options)


def test_a_safe_job_takes_none() -> None:
    with pytest.raises(ConfigError, match="a safe job runs functions as they are installed"):
        job_options(safe=True, environment=Requirements("numpy"))
    with pytest.raises(TypeError, match="unknown option 'requirements'"):
        job_options(requirements=["numpy"])


def test_they_show_as_they_are_written() -> None:
    shown = repr(Requirements("scipy", "numpy", no_index=True, variables={"A": "1"}))
    assert shown == "Requirements('numpy', 'scipy', '--no-index', variables={'A': '1'})"
