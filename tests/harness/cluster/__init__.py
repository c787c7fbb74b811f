"""Brokers, nodes and clients as real parts, which a test starts, starves and kills."""
