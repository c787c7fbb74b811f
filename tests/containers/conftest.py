"""A Docker engine, a compose command, an image to build on: or a skip that names what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.environments.compose import Compose

ROOT = Path(__file__).parents[2]
DEFAULT_BASE = "python:3.12-slim-bookworm"


@pytest.fixture(scope="session")
def compose_command() -> list[str]:
    """``docker compose`` or ``docker-compose``."""
    if shutil.which("docker") is None or not _works("docker", "info"):
        pytest.skip("no Docker engine")
    if _works("docker", "compose", "version"):
        return ["docker", "compose"]
    if shutil.which("docker-compose") and _works("docker-compose", "version"):
        return ["docker-compose"]
    pytest.skip("no docker compose")


@pytest.fixture(scope="session")
def base_image(compose_command: list[str]) -> str:
    """An image with Python 3.11 or newer: $MANYHANDS_TEST_IMAGE, or the usual one."""
    base = os.environ.get("MANYHANDS_TEST_IMAGE", DEFAULT_BASE)
    if not _works("docker", "image", "inspect", base) and not _works("docker", "pull", "-q", base):
        pytest.skip(f"no base image: {base} is not here and cannot be pulled")
    return base


@pytest.fixture(scope="module")
def cluster(compose_command: list[str], base_image: str) -> Iterator[Compose]:
    """A project of its own, built and not yet up; whatever happens, it is taken down."""
    project = f"manyhands-test-{uuid.uuid4().hex[:8]}"
    environment = {
        "COMPOSE_PROJECT_NAME": project,
        "MANYHANDS_IMAGE": project,
        "MANYHANDS_PORT": "0",
        "MANYHANDS_HTTP_PORT": "0",
        "PYTHON_IMAGE": base_image,
        "BUILD_NETWORK": os.environ.get("MANYHANDS_TEST_NETWORK", "default"),
        # The older builder keeps to the named network and needs no plugin.
        "DOCKER_BUILDKIT": "0" if compose_command == ["docker-compose"] else "1",
    }
    compose = Compose(compose_command, ROOT, {**os.environ, **environment})
    try:
        compose.run("build", "--quiet", "broker", timeout=600)
        yield compose
    finally:
        compose.run("down", "--volumes", "--remove-orphans", "--timeout", "5", timeout=120)
        _works("docker", "image", "rm", "--force", project)
        # The older builder keeps the image of the first stage, without a name.
        _works("docker", "image", "prune", "--force", "--filter", "label=manyhands.stage=build")


def _works(*command: str) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=90, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
