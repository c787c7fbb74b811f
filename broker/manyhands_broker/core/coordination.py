"""What the scheduler asks the coordinator beside it, for the clients whose queries it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from manyhands_broker.core.model.identity import Identity

#: Queries that it answers, and what it calls them.
OF_PROGRAMS: Mapping[str, str] = {"agent": "agent", "ps": "ps", "why_process": "why"}


class Coordination(Protocol):
    """Answers queries about programs of several processes."""

    def ask(self, what: str, arguments: Mapping[str, Any], who: Identity, account: str) -> Any:
        """Answer a query.

        Args:
            what: `agent`, `ps` or `why`.
            arguments: of the query, checked.
            who: asks.
            account: on which it asks.

        Raises:
            LookupError: there is no such program; the text says so.
        """
