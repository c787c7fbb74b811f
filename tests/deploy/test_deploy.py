"""What is shipped for running a cluster elsewhere says things that hold, and the same everywhere."""

from __future__ import annotations

import configparser
import json
import math
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.command import COMMAND
from manyhands import _durations as durations
from manyhands.cli import _settings as settings
from manyhands.cli._app import VERBS, app
from manyhands_broker.http.app import SCALE
from manyhands_broker.http.metrics import COUNTERS, GAUGES
from manyhands_shared.config import BrokerConfig, WorkerConfig
from manyhands_shared.security import allow_list

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
METRICS = {
    "manyhands_up",
    "manyhands_ready",
    "manyhands_info",
    "manyhands_nodes",
    "manyhands_broker_cpu_seconds_total",
    *GAUGES,
    *(f"{name}_total" for name in COUNTERS),
}


def parsed(words: list[str]) -> dict[str, Any]:
    """The options of a `manyhands` command line; one that would be refused raises."""
    verb, *rest = words
    command = app.get_command(None, verb)  # type: ignore[arg-type]
    assert command is not None
    options = command.make_context(verb, list(rest)).params
    kind: Any = {"broker": BrokerConfig, "worker": WorkerConfig}.get(verb)
    if kind is not None:
        known = {name: options[name] for name in (field.name for field in fields(kind))}
        settings.validate(kind, known)
    return options


def documents() -> dict[str, dict[str, Any]]:
    """Every Kubernetes object, by ``Kind/name``."""
    found = {}
    for file in (DEPLOY / "kubernetes").glob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            name = document.get("metadata", {}).get("name", file.stem)
            found[f"{document['kind']}/{name}"] = document
    return found


OBJECTS = documents()
PODS = {
    name: OBJECTS[f"{kind}/manyhands-{name}"]["spec"]["template"]
    for kind, name in (("StatefulSet", "broker"), ("Deployment", "worker"))
}


# Kubernetes


@pytest.mark.parametrize("name", PODS)
def test_a_pod_starts_a_command_that_there_is_and_mounts_what_it_names(name: str) -> None:
    pod = PODS[name]["spec"]
    [container] = pod["containers"]
    assert container["name"] == name
    assert container["args"][0] == name
    parsed(container["args"])
    owner = OBJECTS[f"{'StatefulSet' if name == 'broker' else 'Deployment'}/manyhands-{name}"]
    claims = [claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])]
    volumes = {volume["name"] for volume in pod["volumes"]} | set(claims)
    for one in (*pod["initContainers"], container):
        assert {mount["name"] for mount in one["volumeMounts"]} <= volumes
        assert one["securityContext"]["readOnlyRootFilesystem"]
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not one["securityContext"]["allowPrivilegeEscalation"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert owner["spec"]["selector"]["matchLabels"] == PODS[name]["metadata"]["labels"]
    # The user of the image.
    assert f"--uid {pod['securityContext']['runAsUser']}" in (ROOT / "Dockerfile").read_text()


def test_everybody_finds_the_broker_under_its_name() -> None:
    service = OBJECTS["Service/manyhands-broker"]
    [broker], [worker] = (PODS[name]["spec"]["containers"] for name in ("broker", "worker"))
    assert service["spec"]["selector"] == PODS["broker"]["metadata"]["labels"]
    ports = {(port["name"], port["protocol"]): port["port"] for port in service["spec"]["ports"]}
    named = {(port["name"], port["protocol"]): port["containerPort"] for port in broker["ports"]}
    assert ports == named
    options = parsed(broker["args"])
    assert options["bind"].endswith(f":{ports['work', 'TCP']}")
    assert options["http"].endswith(f":{ports['http', 'TCP']}")
    assert ports["work", "TCP"] == ports["heartbeats", "UDP"]
    environment = {entry["name"]: entry["value"] for entry in worker["env"]}
    assert environment["MANYHANDS_BROKER"] == f"tcp://manyhands-broker:{ports['work', 'TCP']}"
    for probe in ("livenessProbe", "readinessProbe"):
        assert broker[probe]["httpGet"]["port"] == "http"
    for policy in (
        OBJECTS["NetworkPolicy/manyhands-broker"],
        OBJECTS["NetworkPolicy/manyhands-worker"],
    ):
        name = policy["metadata"]["name"].removeprefix("manyhands-")
        assert policy["spec"]["podSelector"]["matchLabels"] == PODS[name]["metadata"]["labels"]
    listed = OBJECTS["Kustomization/kustomization"]["resources"]
    assert {*listed, "kustomization.yaml"} == {
        file.name for file in (DEPLOY / "kubernetes").iterdir()
    }


def test_keda_asks_what_the_broker_answers() -> None:
    scaled = OBJECTS["ScaledObject/manyhands-worker"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == "manyhands-worker"
    [trigger] = scaled["triggers"]
    asked = trigger["metadata"]
    assert asked["valueLocation"] in SCALE
    host, port, path = re.fullmatch(r"http://([^:/]+):(\d+)(/\w+)", asked["url"]).groups()  # type: ignore[union-attr]
    [broker] = PODS["broker"]["spec"]["containers"]
    options = parsed(broker["args"])
    assert host in options["http_hosts"].split(",")
    assert options["http"].endswith(f":{port}")
    assert path == "/scale"
    [worker] = PODS["worker"]["spec"]["containers"]
    assert asked["targetValue"] == worker["resources"]["limits"]["cpu"]


def test_there_is_time_for_a_drain_everywhere() -> None:
    [worker] = PODS["worker"]["spec"]["containers"]
    assert PODS["worker"]["spec"]["terminationGracePeriodSeconds"] > drain(worker["args"])
    service = COMPOSE["services"]["worker"]
    assert durations.parse(service["stop_grace_period"]) > drain(service["command"])
    unit = read_unit(DEPLOY / "systemd/manyhands-worker.service")["Service"]
    assert int(unit["TimeoutStopSec"]) > drain(started_by(unit))


def drain(words: list[str]) -> float:
    return float(parsed(words)["drain_timeout"])


# systemd


class Unit(configparser.RawConfigParser):
    """A unit file; names keep their capitals."""

    optionxform = str  # type: ignore[assignment]


def read_unit(file: Path) -> Unit:
    unit = Unit(delimiters="=", comment_prefixes="#", strict=False)
    unit.read_string(file.read_text())
    return unit


def started_by(section: Any) -> list[str]:
    words = shlex.split(section["ExecStart"].replace("${CREDENTIALS_DIRECTORY}", "/credentials"))
    assert Path(words[0]).name == "manyhands"
    return words[1:]


@pytest.mark.parametrize("file", UNITS, ids=lambda file: str(file.name))
def test_a_unit_starts_a_command_that_there_is(file: Path) -> None:
    unit = read_unit(file)
    assert unit.sections() == ["Unit", "Service", "Install"]
    service = unit["Service"]
    assert f"manyhands-{started_by(service)[0]}" == file.stem
    options = parsed(started_by(service))
    assert service["Type"] == "notify"
    assert service["KillMode"] == "mixed"
    if file.stem == "manyhands-broker":
        assert options["key_file"] == "/credentials/cluster.key"
        assert service["LoadCredential"].startswith("cluster.key:")
    else:
        assert options["key_file"] == "-"
        assert service["StandardInput"] == "file:/etc/manyhands/worker.key"
    assert int(service["WatchdogSec"]) >= 10  # the loops say so twice a second


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("file", UNITS, ids=lambda file: str(file.name))
def test_systemd_understands_a_unit(file: Path, tmp_path: Path) -> None:
    here = tmp_path / file.name
    here.write_text(file.read_text().replace("/opt/manyhands/bin/manyhands", "/bin/true"))
    command = ["systemd-analyze", "verify", str(here)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


# Keys


def test_no_node_is_given_the_clusters_key() -> None:
    [worker] = PODS["worker"]["spec"]["containers"]
    [broker] = PODS["broker"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in worker["env"]}
    assert environment["MANYHANDS_KEY_FILE"] == "/keys/node.key"
    secrets = [
        {volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume}
        for pod in (PODS["broker"], PODS["worker"])
    ]
    assert not secrets[0] & secrets[1]
    assert {"name": "secret", "mountPath": "/secret", "readOnly": True} in broker["volumeMounts"]
    assert parsed(broker["args"])["allow_file"].startswith("/secret/")
    services = COMPOSE["services"]
    assert services["worker"]["volumes"] == ["node-keys:/keys:ro"]
    for name, service in services.items():
        if name not in ("keys", "broker"):
            assert not [one for one in service.get("volumes", []) if one.startswith("keys:")]
    assert services["client"]["volumes"][0] == "client-keys:/keys:ro"
    unit = (DEPLOY / "systemd/manyhands-worker.service").read_text()
    settings_of_unit = [line for line in unit.splitlines() if not line.startswith("#")]
    assert "cluster.key" not in "\n".join(settings_of_unit)


def test_the_keys_of_compose_are_made_once_each_for_its_role(tmp_path: Path) -> None:
    [script] = COMPOSE["services"]["keys"]["command"]
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "manyhands").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    (binaries / "manyhands").chmod(0o755)
    for name in ("keys", "node-keys", "client-keys"):
        script = script.replace(f" /{name}/", f" {tmp_path}/{name}/")
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    found = []
    for _ in range(2):
        subprocess.run(
            ["sh", "-euc", script.replace("$$", "$")], check=True, env=environment, timeout=100
        )
        found.append({file.name: file.read_text() for file in tmp_path.glob("*keys/*")})
    assert found[0] == found[1]
    assert set(found[0]) == {"cluster.key", "cluster.key.allowed", "node.key", "client.key"}
    keys = {
        entry.name: entry.role for entry in allow_list.read(tmp_path / "keys/cluster.key.allowed")
    }
    assert keys == {"nodes": "worker", "clients": "client"}


# Compose and what it mounts


def test_services_of_compose_start_commands_that_there_are() -> None:
    for name, service in COMPOSE["services"].items():
        if service["image"].startswith("${MANYHANDS_IMAGE") and "entrypoint" not in service:
            if service["command"][0] in VERBS:
                parsed(service["command"])
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name} mounts {source}"
            else:
                assert source in COMPOSE["volumes"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_prometheus_scrapes_the_broker_and_grafana_asks_prometheus() -> None:
    options = parsed(COMPOSE["services"]["broker"]["command"])
    config = yaml.safe_load((DEPLOY / "monitoring/prometheus.yml").read_text())
    [[target]] = [
        job["targets"] for one in config["scrape_configs"] for job in one["static_configs"]
    ]
    host, port = target.split(":")
    assert host in COMPOSE["services"]
    assert host in options["http_hosts"].split(",")
    assert options["http"].endswith(f":{port}")
    grafana = DEPLOY / "monitoring/grafana"
    [source] = yaml.safe_load((grafana / "datasources.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((grafana / "dashboards.yml").read_text())["providers"]
    mounts = dict(volume.split(":")[:2] for volume in COMPOSE["services"]["grafana"]["volumes"])
    inside = mounts["./deploy/monitoring/grafana/manyhands.json"]
    assert Path(inside).parent == Path(provider["options"]["path"])
    environment = COMPOSE["services"]["grafana"]["environment"]
    assert environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == inside


def expressions() -> Iterator[tuple[str, str]]:
    board = json.loads((DEPLOY / "monitoring/grafana/manyhands.json").read_text())
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "prometheus"
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    shown = set()
    for title, expression in expressions():
        names = set(re.findall(r"manyhands_\w+", expression))
        assert names, title
        assert names <= METRICS, title
        for name in names:
            # What only rises is of use as a rate alone, and the other way round.
            assert name.endswith("_total") == bool(re.search(r"rate\(|increase\(", expression))
        shown |= names
    assert len(shown) > 15


# Slurm

SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
trap 'kill $one $two; wait; exit 0' TERM
"$@" & one=$!
"$@" & two=$!
wait
"""


def test_a_program_under_slurm_has_a_cluster_that_ends_with_it(tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "srun").write_text(SRUN)
    (binaries / "manyhands").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    for file in binaries.iterdir():
        file.chmod(0o755)
    program = (
        "import manyhands\nwith manyhands.Executor() as e: print(sum(e.map(abs, range(-9, 0))))"
    )
    environment = {
        **os.environ,
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "MANYHANDS_HOST": "127.0.0.1",
    }
    done = subprocess.run(
        ["bash", str(DEPLOY / "slurm/manyhands.sbatch"), COMMAND[0], "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) == math.comb(10, 2)
    assert [file.name for file in tmp_path.iterdir()] == ["bin"], "the key is gone"
    usage = subprocess.run(
        ["bash", str(DEPLOY / "slurm/manyhands.sbatch")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert usage.returncode == 2
