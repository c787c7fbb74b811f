"""What an installer may be given for a job."""

from __future__ import annotations

import pytest

from manyhands_shared.errors import ProtocolError
from manyhands_shared.protocol import requirements
from manyhands_shared.protocol.job_options import JobOptions


def test_the_same_requirements_have_one_form_and_one_name() -> None:
    lines = ["scipy", " numpy  >=2 ", "--no-index", "scipy", "--find-links /b", "--find-links /a"]
    form = requirements.normal(lines)
    # Where packages come from is asked in the order that was given.
    assert form == ("numpy >=2", "scipy", "--no-index", "--find-links /b", "--find-links /a")
    assert requirements.digest(form) == requirements.digest(requirements.normal(form))
    assert requirements.digest(form) != requirements.digest(form[:-1])
    assert len(requirements.digest(form)) == 16
    assert requirements.digest(()) == b""


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        "numpy==2.1; python_version>'3'",
        "a @ https://x/a.whl",
        "--index-url https://x/simple",
    ],
)
def test_requirements_and_places_are_taken(line: str) -> None:
    requirements.check([line])
    assert JobOptions.from_map({"requirements": [line]}).requirements == (line,)


@pytest.mark.parametrize(
    "line",
    [
        "-r /etc/passwd",
        "-e .",
        "--requirement=/etc/passwd",
        "--no-index x",
        "--find-links",
        "--find-links /a -r /b",
        "--pre",
        "a\n-r /etc/passwd",
        "a \\",
        "# nothing",
        "x" * 501,
    ],
)
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(ProtocolError):
        requirements.check([line])
    with pytest.raises(ProtocolError):
        JobOptions.from_map({"requirements": [line]})


def test_a_safe_job_has_none() -> None:
    with pytest.raises(ProtocolError, match="a safe job brings no code"):
        JobOptions.from_map({"safe": True, "requirements": ["numpy"]})
