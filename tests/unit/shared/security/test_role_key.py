"""Keys of one role, and the list of those that are let in."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from manyhands_shared.errors import ConfigError
from manyhands_shared.security import allow_list, role_key
from manyhands_shared.security.allow_list import Allowed
from manyhands_shared.security.cluster_key import ClusterKey
from manyhands_shared.security.role_key import RoleKey, credentials, to_hex, to_z85

BROKER = "ab" * 32


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return tmp_path / "cluster.key.allowed"


def entry(number: int, role: str = "client", name: str = "") -> Allowed:
    return Allowed(f"{number:064x}", role, name or f"name-{number}")


def test_a_saved_key_loads_as_the_same_key(tmp_path: Path) -> None:
    key = RoleKey.new("worker", "mill", BROKER)
    key.save(tmp_path / "key")
    again = role_key.load(tmp_path / "key")
    assert isinstance(again, RoleKey)
    assert (again.role, again.name, again.broker) == ("worker", "mill", BROKER)
    assert again.pair == key.pair
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_both_kinds_of_files_give_credentials(tmp_path: Path) -> None:
    cluster = ClusterKey.new()
    cluster.save(tmp_path / "cluster.key")
    server = cluster.pair("broker").public
    assert credentials(tmp_path / "cluster.key", "worker").pair == cluster.pair("worker")
    for role, part in (("client", "client"), ("admin", "client"), ("worker", "worker")):
        key = RoleKey.new(role, role, to_hex(server))
        key.save(tmp_path / role)
        found = credentials(tmp_path / role, part)
        assert (found.pair, found.server) == (key.pair, server)


@pytest.mark.parametrize(("role", "part"), [("client", "worker"), ("worker", "client")])
def test_a_key_of_another_role_is_refused_with_the_remedy(
    tmp_path: Path, role: str, part: str
) -> None:
    RoleKey.new(role, "x", BROKER).save(tmp_path / "key")
    with pytest.raises(ConfigError, match=f"keys new FILE --role {part}"):
        credentials(tmp_path / "key", part)


def test_secrets_are_not_shown() -> None:
    key = RoleKey("client", "alice", b"\x07" * 32, BROKER)
    assert "07" * 4 not in repr(key)
    assert key.pair.secret.decode() not in repr(key.pair)


@pytest.mark.parametrize(
    "text",
    [
        "manyhands-role-key-v1:",
        f"manyhands-role-key-v1:client:alice:{'0' * 62}:{BROKER}",
        f"manyhands-role-key-v1:king:alice:{'0' * 64}:{BROKER}",
        f"manyhands-role-key-v1:client:a b:{'0' * 64}:{BROKER}",
        f"manyhands-role-key-v1:client:alice:{'0' * 64}:{BROKER}:more",
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="damaged; copy it again"):
        role_key.load(path)


def test_public_keys_in_either_form() -> None:
    pair = ClusterKey.new().pair("client")
    assert to_z85(to_hex(pair.public)) == pair.public


def test_allow_and_revoke(listed: Path) -> None:
    assert allow_list.read(listed) == ()
    for number in range(3):
        allow_list.allow(listed, entry(number))
    allow_list.allow(listed, entry(1, "admin", "one"))
    assert set(allow_list.read(listed)) == {entry(0), entry(1, "admin", "one"), entry(2)}
    assert allow_list.revoke(listed, "one") == entry(1, "admin", "one")
    assert allow_list.revoke(listed, entry(2).public) == entry(2)
    assert allow_list.read(listed) == (entry(0),)
    assert stat.S_IMODE(listed.stat().st_mode) == 0o600
    assert list(listed.parent.iterdir()) == [listed]


def test_many_who_write_at_once_lose_nothing_and_no_reader_sees_half(listed: Path) -> None:
    def work(number: int) -> int:
        allow_list.allow(listed, entry(number))
        return len(allow_list.read(listed))

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(work, range(40))) == 40


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("zz client a", "line 1 .* is no public key"),
        ("\n# note\n" + "0" * 64 + " king a", "line 3 .* is no role"),
        ("0" * 64 + " client", "line 1 .* is not: PUBLIC ROLE NAME"),
        ("0" * 64 + " client a\n" + "0" * 64 + " client b", "line 2 .* repeats a key"),
        ("0" * 64 + " client \u00e9", "cannot read"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(listed: Path, text: str, says: str) -> None:
    listed.write_text(text, encoding="utf-8")
    listed.chmod(0o600)
    with pytest.raises(ConfigError, match=says):
        allow_list.read(listed)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_list_that_others_can_write_is_refused(listed: Path, mode: int) -> None:
    allow_list.allow(listed, entry(1))
    listed.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        allow_list.read(listed)
