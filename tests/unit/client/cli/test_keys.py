"""`manyhands keys`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.command import document, fails, run
from manyhands_shared.security import allow_list, role_key
from manyhands_shared.security.cluster_key import ClusterKey
from manyhands_shared.security.role_key import RoleKey, to_hex

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
    assert shown["public"]["client"] == to_hex(loaded.pair("client").public)
    assert shown["mode"] == "0600"
    for text in (plain.stdout, str(shown)):
        assert secret not in text
        assert loaded.pair("broker").secret.decode() not in text
    assert to_hex(loaded.pair("broker").public) in plain.stdout


def test_the_file_may_come_from_the_environment(key: Path) -> None:
    assert document(run("keys", "show", "--json", env={"MANYHANDS_KEY_FILE": str(key)}))[
        "file"
    ] == str(key)


def test_a_file_that_others_can_read_is_refused(key: Path) -> None:
    key.chmod(0o644)
    assert f"chmod 600 {key}" in fails(run("keys", "show", key), 2)


def test_a_missing_file_names_the_next_step(tmp_path: Path) -> None:
    assert "manyhands keys new" in fails(run("keys", "show", tmp_path / "none"), 2)


def keys(cluster: Path) -> list[tuple[str, str]]:
    """Name and role of the keys that are let in."""
    listed = document(run("keys", "list", "--json", "--cluster", cluster))["keys"]
    return [(one["name"], one["role"]) for one in listed]


def test_a_key_for_one_person_is_made_listed_and_revoked(key: Path, tmp_path: Path) -> None:
    alice = tmp_path / "alice.key"
    made = run("keys", "new", alice, "--role", "client", "--cluster", key)
    assert made.returncode == 0, made
    assert "alice" in made.stderr
    loaded = role_key.load(alice)
    assert isinstance(loaded, RoleKey)
    assert (loaded.role, loaded.name) == ("client", "alice")
    assert loaded.broker == to_hex(ClusterKey.load(key).pair("broker").public)
    assert keys(key) == [("alice", "client")]
    assert f"{allow_list.place(key).stat().st_mode & 0o777:o}" == "600"
    shown = document(run("keys", "show", "--json", alice))
    assert shown["public"] == {"client": loaded.public, "broker": loaded.broker}
    secret = alice.read_text().split(":")[3]
    assert secret not in str(shown) + run("keys", "show", alice).stdout
    # A name is for one key, and a file is never overwritten.
    again = ("keys", "new", tmp_path / "other.key", "--name", "alice", "--role", "client")
    assert "another key is called alice" in fails(run(*again, "--cluster", key), 2)
    assert not (tmp_path / "other.key").exists()
    assert "exists already" in fails(
        run("keys", "new", alice, "--role", "admin", "--cluster", key), 2
    )
    assert keys(key) == [("alice", "client")]
    assert run("keys", "revoke", "alice", "--cluster", key).returncode == 0
    assert keys(key) == []
    assert "no key 'alice'" in fails(run("keys", "revoke", "alice", "--cluster", key), 2)


def test_a_key_whose_secret_stays_where_it_was_made(key: Path, tmp_path: Path) -> None:
    broker = document(run("keys", "show", "--json", key))["public"]["broker"]
    made = run("keys", "new", tmp_path / "node-7.key", "--role", "worker", "--broker-key", broker)
    # What it prints is what the operator runs.
    command = made.stdout.split()
    assert command[:2] == ["manyhands", "keys"]
    assert run(*command[1:], env={"MANYHANDS_KEY_FILE": str(key)}).returncode == 0
    assert keys(key) == [("node-7", "worker")]
    # The same key again gets another role.
    assert run("keys", "allow", tmp_path / "node-7.key", "--role", "admin", "--cluster", key)
    assert keys(key) == [("node-7", "admin")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["new", "a.key", "--role", "client"], "--cluster"),
        (["new", "a.key", "--role", "king"], "king"),
        (["new", "a.key", "--name", "a"], "--role"),
        (["new", "a.key", "--role", "client", "--broker-key", "zz"], "64 hexadecimal digits"),
        (["new", "a b.key", "--role", "client", "--broker-key", "0" * 64], "is no name for a key"),
        (["allow", "0" * 64, "--cluster", "c.key"], "--role and --name"),
        (
            ["allow", "00", "--role", "client", "--name", "a", "--cluster", "c.key"],
            "64 hexadecimal",
        ),
        (["list"], "--cluster"),
        (["revoke", "a"], "--cluster"),
    ],
)
def test_what_is_missing_is_named(arguments: list[str], says: str, tmp_path: Path) -> None:
    assert says in fails(run("keys", *arguments, cwd=tmp_path), 2)
    assert not list(tmp_path.glob("*.key"))
