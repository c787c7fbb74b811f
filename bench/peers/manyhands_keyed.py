"""This project as services use it: a broker with a key on TCP, and a node of its own."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path

import manyhands
from bench.peers import WORKERS, manyhands_


class Cluster(manyhands_.Cluster):
    """A client of a broker and a node that are processes of their own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="manyhands-bench-")
        self._key = key = str(Path(self._folder.name) / "cluster.key")
        self._cluster = manyhands.LocalCluster(
            nodes=1,
            slots=WORKERS,
            broker={"bind": "tcp://127.0.0.1:0", "key_file": key, "create_key": True},
            worker={"key_file": key},
        )
        self._executor = manyhands.Executor(WORKERS, address=self._cluster.address, key_file=key)

    @cached_property
    def _pool(self) -> manyhands.Pool:
        return manyhands.Pool(WORKERS, address=self._executor.address, key_file=self._key)

    def close(self) -> None:
        super().close()
        self._cluster.close()
        self._folder.cleanup()
