"""Every package and image is pinned, by the hash of its content, to what pyproject.toml allows."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = runpy.run_path(str(ROOT / "tools/lock.py"))
VENV = runpy.run_path(str(ROOT / "tools/venv.py"))
_ENTRY = re.compile(r"^([\w.-]+)==(\S+)[^\n]*\\\n((?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE)


def wanted(extra: str) -> list[Requirement]:
    """What an extra asks for, with what it takes from other extras."""
    found = []
    for text in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"]:
            found += [one for inner in requirement.extras for one in wanted(inner)]
        else:
            found.append(requirement)
    return found


def pinned(file: str) -> dict[str, set[str]]:
    """The versions of each package in a lock file, one for each Python or system that differs."""
    versions: dict[str, set[str]] = {}
    for name, version, hashes in _ENTRY.findall((ROOT / file).read_text()):
        assert all("--hash=sha256:" in line for line in hashes.splitlines())
        versions.setdefault(name, set()).add(version)
    return versions


@pytest.mark.parametrize("file", LOCK["LOCKS"])
def test_a_lock_has_what_is_asked_for(file: str) -> None:
    text = (ROOT / file).read_text()
    versions = pinned(file)
    assert sum(map(len, versions.values())) == text.count("==") - text.count("== '")
    extras = LOCK["LOCKS"][file]
    asked = [one for extra in extras for one in wanted(extra)]
    asked += map(Requirement, PROJECT["dependencies"] if extras else LOCK["BUILD"])
    for requirement in asked:
        for version in versions[requirement.name]:
            assert requirement.specifier.contains(version, prereleases=True), requirement


def test_what_is_installed_is_what_is_locked() -> None:
    installed = {file: set(extras.split(",")) for extras, file in VENV["LOCKS"].items()}
    locked = {file: set(extras) for file, extras in LOCK["LOCKS"].items() if extras}
    assert installed == locked


def test_images_are_named_by_their_content() -> None:
    text = (ROOT / "Dockerfile").read_text() + (ROOT / "compose.yaml").read_text()
    named = re.findall(r"\b[\w./-]+:[\w.-]+(?:@sha256:[0-9a-f]{64})?(?=[}\n])", text)
    images = [one for one in named if re.match(r"(python|prom|grafana)\b", one)]
    assert len(images) == 4
    assert all("@sha256:" in image for image in images)


def test_actions_of_the_hosted_ci_are_named_by_their_commit() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used)
