"""Key files: made whole, kept private, never overwritten, never shown."""

from __future__ import annotations

import contextlib
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import zmq

from manyhands_shared.errors import ConfigError
from manyhands_shared.security.cluster_key import PARTS, ClusterKey

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "deep/er/cluster.key"
    ClusterKey.new().save(path)
    return path


def test_a_saved_key_loads_as_the_same_key(tmp_path: Path) -> None:
    key = ClusterKey.new()
    key.save(tmp_path / "key")
    again = ClusterKey.load(tmp_path / "key")
    assert all(again.pair(role) == key.pair(role) for role in PARTS)


def test_the_file_is_private_and_alone(saved: Path) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert [*saved.parent.iterdir()] == [saved]


def test_an_existing_file_is_kept(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(ConfigError, match="exists already and is kept"):
        ClusterKey.new().save(saved)
    assert saved.read_bytes() == before
    assert [*saved.parent.iterdir()] == [saved]


def test_of_many_that_save_at_once_one_wins_and_all_read_its_key(tmp_path: Path) -> None:
    path = tmp_path / "key"

    def make(_: int) -> bytes:
        with contextlib.suppress(ConfigError):
            ClusterKey.new().save(path)
        return ClusterKey.load(path).pair("broker").public

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(make, range(32)))) == 1
    assert [*tmp_path.iterdir()] == [path]


def test_each_role_has_its_own_valid_pair() -> None:
    key = ClusterKey.new()
    pairs = [key.pair(role) for role in PARTS]
    assert len({pair.secret for pair in pairs}) == len(PARTS)
    assert all(zmq.curve_public(pair.secret) == pair.public for pair in pairs)
    with pytest.raises(ValueError, match="no such part"):
        key.pair("admin")


def test_two_keys_share_nothing() -> None:
    assert ClusterKey.new().pair("client") != ClusterKey.new().pair("client")


def test_the_secret_is_not_in_the_repr() -> None:
    assert repr(ClusterKey(b"\x07" * 32)) == "ClusterKey(…)"
    assert "0707" not in str(ClusterKey(b"\x07" * 32))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_can_read_is_refused(saved: Path, mode: int) -> None:
    saved.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        ClusterKey.load(saved)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a manyhands key file"),
        ("ssh-rsa AAAA", "not a manyhands key file"),
        ("manyhands-key-v1:zz", "damaged"),
        ("manyhands-key-v1:00", "32 bytes, this one has 1"),
        ("manyhands-key-v1:é", "cannot read"),
    ],
)
def test_what_is_no_key_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=says):
        ClusterKey.load(path)


def test_a_missing_file_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="manyhands keys new"):
        ClusterKey.load(tmp_path / "none")


def test_a_directory_is_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        ClusterKey.load(tmp_path)


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot write"):
        ClusterKey.new().save(tmp_path / "file" / "key")
