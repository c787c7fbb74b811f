"""`manyhands keys`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from command import document, fails, run
from manyhands_shared.keys import ClusterKey

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.key"
    assert run("keys", "new", path).returncode == 0
    return path


def test_new_makes_a_private_key_file(key: Path) -> None:
    assert ClusterKey.load(key)


def test_new_keeps_an_existing_file(key: Path) -> None:
    before = key.read_bytes()
    assert "exists already" in fails(run("keys", "new", key), 2)
    assert key.read_bytes() == before


def test_show_prints_public_keys_and_never_the_secret(key: Path) -> None:
    loaded, secret = ClusterKey.load(key), key.read_text().partition(":")[2].strip()
    plain, shown = run("keys", "show", key), document(run("keys", "show", "--json", key))
    assert shown["public"]["client"] == loaded.pair("client").public.decode()
    assert shown["mode"] == "0600"
    for text in (plain.stdout, str(shown)):
        assert secret not in text
        assert loaded.pair("broker").secret.decode() not in text
    assert loaded.pair("broker").public.decode() in plain.stdout


def test_the_file_may_come_from_the_environment(key: Path) -> None:
    assert document(run("keys", "show", "--json", MANYHANDS_KEY_FILE=str(key)))["file"] == str(key)


def test_a_file_that_others_can_read_is_refused(key: Path) -> None:
    key.chmod(0o644)
    assert f"chmod 600 {key}" in fails(run("keys", "show", key), 2)


def test_a_missing_file_names_the_next_step(tmp_path: Path) -> None:
    assert "manyhands keys new" in fails(run("keys", "show", tmp_path / "none"), 2)
