"""A cluster in parts for each test, ended in any case."""

from __future__ import annotations

from harness.cluster.bench import bench

__all__ = ["bench"]
