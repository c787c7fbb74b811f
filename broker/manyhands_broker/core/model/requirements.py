"""What tasks need of a node. Jobs that need the same are of one kind, and wait in one line.

Kinds are few and compared all the time, so there is one object for each, and it is compared by identity.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from manyhands_shared.protocol.labels import is_common

#: Resource name and amount, sorted.
Resources = tuple[tuple[str, float], ...]
#: Labels that a node must have.
Needs = frozenset[str]


class Kind:
    """Labels that a node must have, and what each task takes of it. Made by `kind_of` alone."""

    __slots__ = ("__weakref__", "needs", "plain", "resources")

    def __init__(self, needs: Needs, resources: Resources) -> None:
        self.needs = needs
        self.resources = resources
        #: Whether it asks for no more than what most jobs do: a Python and its pickles.
        self.plain = not resources and all(map(is_common, needs))


_kinds: WeakValueDictionary[tuple[Needs, Resources], Kind] = WeakValueDictionary()


def kind_of(needs: Needs, resources: Resources) -> Kind:
    """Return the kind of tasks that need this."""
    kind = _kinds.get((needs, resources))
    if kind is None:
        kind = _kinds[needs, resources] = Kind(needs, resources)
    return kind
