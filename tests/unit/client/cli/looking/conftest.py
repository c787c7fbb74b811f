"""Brokers of their own, for tests that end them."""

from harness.cluster.bench import bench

__all__ = ["bench"]
