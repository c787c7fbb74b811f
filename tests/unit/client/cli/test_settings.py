"""Options from files and text, checked against the dataclasses of each role."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from manyhands.cli import _settings as settings
from manyhands_shared.config import BrokerConfig, ClientConfig, WorkerConfig
from manyhands_shared.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

ROLES = [BrokerConfig, WorkerConfig, ClientConfig]


@pytest.mark.parametrize("kind", ROLES)
def test_nothing_gives_the_defaults_and_the_defaults_are_valid(kind: Any) -> None:
    assert settings.validate(kind, {}) == kind()
    defaults = {field.name: getattr(kind(), field.name) for field in fields(kind)}
    assert settings.validate(kind, defaults) == kind()
    assert settings._converted(kind, defaults) == kind()


def test_pydantic_looks_at_all_that_may_be_wrong() -> None:
    script = (
        "import sys; from manyhands.cli import _settings as settings, exec\n"
        "from manyhands_shared.config import ClientConfig\n"
        "for given in ({'limit': 0}, {'broker': 'tcp://a:1'}, {'limit': '7'}):\n"
        "    limit = settings.validate(ClientConfig, given).limit\n"
        "    print(limit, not {'annotated_types', 'pydantic'}.isdisjoint(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.split() == ["0", "False", "0", "False", "7", "True"]


def test_text_is_converted() -> None:
    given = {"lease": "2.5", "beat_port": "99", "create_key": "true", "bind": "host"}
    config = settings.validate(BrokerConfig, given)
    assert (config.lease, config.beat_port, config.create_key) == (2.5, 99, True)


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (BrokerConfig, {"lease": 0}, "'lease'.*greater than or equal to 0.01"),
        (BrokerConfig, {"lease": 1e9}, "'lease'.*less than or equal"),
        (BrokerConfig, {"lease": "soon"}, "'lease'.*got 'soon'"),
        (BrokerConfig, {"lease": float("nan")}, "'lease'"),
        (BrokerConfig, {"beat_port": 65_536}, "'beat_port'"),
        (BrokerConfig, {"crash_limit": 0}, "'crash_limit'"),
        (BrokerConfig, {"phi_threshold": -1}, "'phi_threshold'"),
        (WorkerConfig, {"slots": -1}, "'slots'"),
        (WorkerConfig, {"slots": 1.5}, "'slots'"),
        (WorkerConfig, {"name": 7}, "'name'"),
        (WorkerConfig, {"window": 0}, "'window'"),
        (ClientConfig, {"connect_timeout": 0}, "'connect_timeout'"),
        (
            WorkerConfig,
            {"colour": "red"},
            "unknown option 'colour'; there are: agent_at_start, beats, broker",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_it(
    kind: Any, values: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as info:
        settings.validate(kind, values)
    assert "\n" not in str(info.value)


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def test_no_file_is_no_options(empty_home: dict[str, str]) -> None:
    assert settings.load_file(empty_home) == (None, {})


def test_the_named_file_comes_before_the_local_one_and_that_before_home(
    tmp_path: Path, empty_home: dict[str, str]
) -> None:
    home = tmp_path / "config/manyhands/manyhands.toml"
    home.parent.mkdir(parents=True)
    home.write_text("[worker]\nslots = 1\n")
    assert settings.load_file(empty_home) == (home, {"worker": {"slots": 1}})
    (tmp_path / "here/manyhands.toml").write_text("[worker]\nslots = 2\n")
    assert settings.load_file(empty_home) == (settings.HERE, {"worker": {"slots": 2}})
    named = tmp_path / "named.toml"
    named.write_text("[worker]\nslots = 3\n")
    assert settings.load_file({**empty_home, "MANYHANDS_CONFIG": str(named)}) == (
        named,
        {"worker": {"slots": 3}},
    )


def test_a_local_file_that_another_user_can_write_is_refused(
    tmp_path: Path, empty_home: dict[str, str]
) -> None:
    here = tmp_path / "here/manyhands.toml"
    here.write_text('[client]\nbroker = "tcp://evil:1"\n')
    here.chmod(0o666)
    with pytest.raises(ConfigError, match=r"another user can write manyhands\.toml"):
        settings.load_file(empty_home)
    named = {**empty_home, "MANYHANDS_CONFIG": "manyhands.toml"}
    assert settings.load_file(named).tables == {"client": {"broker": "tcp://evil:1"}}
    here.chmod(0o600)
    assert settings.load_file(empty_home).place == settings.HERE


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_local_file_of_another_user_is_refused(
    tmp_path: Path, empty_home: dict[str, str]
) -> None:
    here = tmp_path / "here/manyhands.toml"
    here.write_text('[client]\nbroker = "tcp://evil:1"\n')
    os.chown(here, 65534, 65534)
    with pytest.raises(ConfigError, match="if you trust it, name it with --config"):
        settings.load_file(empty_home)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        settings.load_file({"MANYHANDS_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize("content", [b"= nonsense", b"\xff\xfe", b"[worker]\nslots = 1\nslots = 2"])
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read the configuration file .*bad\.toml"):
        settings.load_file({"MANYHANDS_CONFIG": str(path)})


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        settings.load_file({"MANYHANDS_CONFIG": str(tmp_path)})
