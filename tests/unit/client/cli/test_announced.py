"""The file by which commands find the cluster of `manyhands up`: whose it must be, and for how long."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from manyhands.cli._announced import Announced, announced, find

ADDRESS = "tcp://127.0.0.1:1"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, in a runtime directory of this test."""
    monkeypatch.delenv("MANYHANDS_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "manyhands" / "cluster.json"


def test_it_is_found_as_long_as_it_runs(place: Path) -> None:
    assert find() is None
    with announced(ADDRESS, "/the/key") as unfound:
        assert unfound == ""
        assert find() == Announced(ADDRESS, "/the/key")
        assert place.stat().st_mode & 0o777 == 0o600
        assert place.parent.stat().st_mode & 0o777 == 0o700
    assert find() is None
    assert not place.exists()


def test_a_file_without_its_cluster_is_none(place: Path) -> None:
    place.parent.mkdir(mode=0o700)
    place.write_text(json.dumps({"address": ADDRESS, "key_file": ""}))
    place.chmod(0o600)
    assert find() is None
    # Nor is it in the way of the next.
    with announced("tcp://127.0.0.1:2", ""):
        assert find() == Announced("tcp://127.0.0.1:2", "")


def test_the_first_stays(place: Path) -> None:
    with announced(ADDRESS, "") as first, announced("tcp://127.0.0.1:2", "") as second:
        assert first == ""
        assert second == f"commands find the cluster that was there before, at {ADDRESS}"
        assert find() == Announced(ADDRESS, "")
    assert not place.exists()


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_others_can_write_is_not_read(what: str, place: Path) -> None:
    with announced(ADDRESS, ""):
        (place if what == "file" else place.parent).chmod(0o777)
        assert find() is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_is_of_another_user_is_not_read(what: str, place: Path) -> None:
    with announced(ADDRESS, ""):
        os.chown(place if what == "file" else place.parent, 12_345, -1)
        assert find() is None


def test_a_link_is_not_followed(place: Path, tmp_path: Path) -> None:
    with announced(ADDRESS, ""):
        place.rename(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
        assert find() is None


def test_a_directory_that_others_can_write_is_not_used(place: Path) -> None:
    place.parent.mkdir()
    place.parent.chmod(0o777)
    with announced(ADDRESS, "") as unfound:
        assert "others can write there" in unfound
    assert not place.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"address": 1}'])
def test_what_makes_no_sense_is_none(text: str, place: Path) -> None:
    with announced(ADDRESS, ""):
        place.write_text(text)
        assert find() is None
