"""What manyhands writes is for its user alone, whatever the umask; what others write is not believed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.brokers.broker_process import Broker
from harness.cluster.bench import Bench
from harness.command import run
from manyhands_broker.core import records as r
from manyhands_broker.journal.sqlite import SqliteJournal
from manyhands_shared.errors import ConfigError
from manyhands_shared.protocol.messages import Function
from manyhands_shared.security import allow_list
from manyhands_shared.security.allow_list import Allowed
from manyhands_shared.security.cluster_key import ClusterKey


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """Every file and directory below a folder that anybody else may use in any way."""
    return {
        str(place.relative_to(folder)): oct(mode)
        for place in folder.rglob("*")
        if (mode := stat.S_IMODE(place.lstat().st_mode)) & 0o077
    }


@pytest.mark.usefixtures("no_umask")
def test_what_a_broker_writes_is_its_users_alone(bench: Bench, tmp_path: Path) -> None:
    place = tmp_path / "new" / "place"
    broker = Broker(
        bind=f"tcp://127.0.0.1:0,unix://{tmp_path / 'new' / 'socket'}",
        key_file=str(place / "cluster.key"),
        create_key=True,
        journal=str(place / "journal"),
    )
    try:
        with bench.executor(
            broker.address.split(",")[0], key_file=place / "cluster.key"
        ) as executor:
            job = executor.submit(abs, -1)
            job.cancel()
        done = run(
            "keys",
            "new",
            place / "keys" / "a.key",
            "--role",
            "client",
            "--cluster",
            place / "cluster.key",
        )
        assert done.returncode == 0, done.stderr
        written = {path.name for path in tmp_path.rglob("*")}
        assert {
            "cluster.key",
            "cluster.key.allowed",
            "a.key",
            "journal.db",
            "journal.db-wal",
        } <= written
        assert modes(tmp_path / "new") == {}
    finally:
        broker.close()
    assert modes(tmp_path / "new") == {}


@pytest.mark.usefixtures("no_umask")
def test_so_are_large_payloads(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "deep" / "journal")
    try:
        journal.append(r.FunctionStored(Function(bytes(16), "f", [b"code"])))
        journal.append(r.JobOpened("job", bytes(16), {}, 0.0, ""))
        journal.append(r.TasksTaken("job", 0, [(b"head", bytes(1 << 20))]))
        journal.commit()
        assert any(path.is_file() for path in (tmp_path / "deep/journal/payloads").rglob("*"))
        assert modes(tmp_path) == {}
    finally:
        journal.close()
    assert os.umask(0) == 0, "the umask of the process is as it was"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_allow_list_of_another_user_is_not_believed(tmp_path: Path) -> None:
    key = tmp_path / "cluster.key"
    ClusterKey.new().save(key)
    place = allow_list.place(key)
    allow_list.allow(place, Allowed("0" * 64, "admin", "mallory"))
    assert len(allow_list.read(place)) == 1
    os.chown(place, 65534, 65534)
    with pytest.raises(ConfigError, match="is user 65534's, who could let anybody in"):
        allow_list.read(place, to_admit=True)
    done = run("broker", "--bind", "tcp://127.0.0.1:0", "--key-file", key)
    assert done.returncode == 2
    assert "is user 65534's" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_list_that_root_changes_stays_its_owners(tmp_path: Path) -> None:
    """Else a broker that runs as that user could not read it, nor learn of what is revoked."""
    place = tmp_path / "list"
    allow_list.allow(place, Allowed("0" * 64, "client", "alice"))
    allow_list.allow(place, Allowed("1" * 64, "client", "bob"))
    os.chown(place, 65534, 65534)
    place.chmod(0o644)
    allow_list.revoke(place, "alice")
    assert stat.S_IMODE(place.stat().st_mode) == 0o644
    assert [entry.name for entry in allow_list.read(place)] == ["bob"]
    assert (place.stat().st_uid, place.stat().st_gid) == (65534, 65534)
