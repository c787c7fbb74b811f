"""Who a peer is, by its key, and what that lets it do.

Without keys, on loopback, every peer may do everything. With keys, a connection acts in the one role of
its key. A worker's key may only be a node's, a client's only a client's. A client may ask about every
job and order what concerns its own: the jobs submitted under the same key. What concerns others, and
the cluster as a whole, takes an admin's key. The cluster key is an admin's and a worker's at once.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What every client may ask; of programs it is told of its own.
_OPEN = frozenset(
    {
        "agent",
        "dashboard",
        "events",
        "health",
        "history",
        "job",
        "jobs",
        "nodes",
        "ps",
        "report",
        "standstill",
        "stats",
        "view",
        "why",
        "why_process",
    }
)
#: What it may ask for, and order, of its own jobs. All else is for admins.
_OWN = frozenset({"pause", "resume", "cancel", "forget", "retry", "output", "stacks", "nodes_of"})

#: Accounts of keys that have a name begin so.
_KEYED = "key:"


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a peer from its key.

    Args:
        key: the public key in hexadecimal; empty where there are no keys.
        name: what the allow-list calls the key; empty for keys that derive from the cluster key, too.
        role: what the key's holder may be.
        priority: the highest that a client's jobs have among those of others.
    """

    key: str = ""
    name: str = ""
    role: str = "any"
    priority: int = 0

    @property
    def top(self) -> int:
        """The highest priority of its jobs; the scheduler knows what is highest of all."""
        return self.priority if self.role == "client" else 1 << 31

    @property
    def submits(self) -> bool:
        """Whether it may be a client."""
        return self.role != "worker"

    @property
    def works(self) -> bool:
        """Whether it may be a node."""
        return self.role in ("worker", "any")

    @property
    def commands(self) -> bool:
        """Whether it may order what concerns others."""
        return self.role in ("admin", "any")

    def account(self, session: str) -> str:
        """Return on whose account jobs of a session called `session` run.

        The key's name would not do: another key may be called the same once this one is revoked.
        """
        return f"{_KEYED}{self.key}" if self.name else session

    @staticmethod
    def vouches(account: str, owner: str) -> bool:
        """Return whether jobs of `owner` were made by `account` itself, or by the cluster key's holders.

        Args:
            account: Whose the session is.
            owner: On whose account the job runs.
        """
        return owner == account or not owner.startswith(_KEYED)

    @staticmethod
    def is_same(one: str, other: str) -> bool:
        """Return whether two accounts are of one owner, as far as keys tell."""
        return one == other or not (one.startswith(_KEYED) or other.startswith(_KEYED))

    def why_not(self, what: str, account: str, owner: str | None) -> str:
        """Return why this identity may not put the query `what`; empty if it may.

        Args:
            what: Of the query.
            account: Whose the session is.
            owner: Whose the job is that the query is about; `None` if there is no such job.
        """
        if self.commands or what in _OPEN:
            return ""
        if what not in _OWN:
            return f"{what!r} takes an admin's key, and {self.name} is a client's"
        if owner is not None and owner != account:
            return f"the job is not one of {self.name}'s: {what!r} takes an admin's key, or its owner's"
        return ""


#: Where there are no keys.
ANYBODY = Identity()
