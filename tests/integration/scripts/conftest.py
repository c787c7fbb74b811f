"""Clusters in parts, for scripts."""

from harness.cluster.bench import bench

__all__ = ["bench"]
