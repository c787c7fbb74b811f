"""A keyed broker with keys of each role, and peers that speak by hand with any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.cluster.bench import Bench
from harness.cluster.parts import Broker, Node
from harness.cluster.peers import Peer, Peers
from manyhands_shared.security import allow_list, role_key
from manyhands_shared.security.allow_list import Allowed
from manyhands_shared.security.cluster_key import ClusterKey, KeyPair
from manyhands_shared.security.role_key import RoleKey, to_hex


class Keyed:
    """A broker with a cluster key, and key files below one folder."""

    def __init__(self, bench: Bench, peers: Peers, **config: Any) -> None:
        self.bench = bench
        self.peers = peers
        # Held, so that each is closed with their context and not by the garbage collector.
        self._made: list[Peer] = []
        self.folder = bench.folder
        self.cluster_file = bench.folder / "cluster.key"
        self.cluster = ClusterKey.new()
        self.cluster.save(self.cluster_file)
        self.allowed = allow_list.place(self.cluster_file)
        self.public = to_hex(self.cluster.pair("broker").public)
        self.broker: Broker = bench.broker(key_file=str(self.cluster_file), **config)

    def key(self, name: str, role: str, *, allow: bool = True) -> Path:
        """A key file; let in unless told otherwise."""
        key = RoleKey.new(role, name, self.public)
        file = self.folder / f"{name}.key"
        key.save(file)
        if allow:
            self.allow(key)
        return file

    def pair(self, name: str, role: str) -> KeyPair:
        """Return the key pair of a new key that is let in."""
        key = role_key.load(self.key(name, role))
        assert isinstance(key, RoleKey)
        return key.pair

    def allow(self, key: RoleKey) -> None:
        """Let a key in."""
        allow_list.allow(self.allowed, Allowed(key.public, key.role, key.name))

    def node(self, file: Path, name: str = "", **config: Any) -> Node:
        """A node with this key."""
        return self.bench.node(self.broker.address, name, key_file=str(file), **config)

    def peer(self, pair: KeyPair, server: bytes = b"", address: str = "", **options: Any) -> Peer:
        """A peer that speaks by hand, with this key pair, to the broker or to who is at `address`."""
        options = {
            "curve_publickey": pair.public,
            "curve_secretkey": pair.secret,
            "curve_serverkey": server or self.cluster.pair("broker").public,
            **options,
        }
        self._made.append(self.peers(address or self.broker.address, **options))
        return self._made[-1]
