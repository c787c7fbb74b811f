"""What the cores still hold when everything is over: there should be nothing."""

from __future__ import annotations

from typing import Any

from manyhands._session import Session
from manyhands_broker.core import Core
from manyhands_worker.core.node_core import NodeCore


def remains_of_broker(core: Core) -> list[str]:
    """Entries in the scheduler's books that nobody needs any more."""
    book = core.book
    held: dict[str, list[Any]] = {
        "jobs": list(book.jobs),
        "sessions": [session.name for session in book.sessions.values()],
        "links of sessions": list(book.session_of),
        "jobs that wait for others": list(book.followers),
        "unwritten jobs": list(book.unwritten),
        "sessions to report to": list(book.reporting),
        "readers": list(book.readers),
        "orphans": list(core._orphans._tasks),
        "stored values": [key for shelf in core._exchange._shelves.values() for key in shelf],
        "users of functions": list(core.book.functions._users),
        "jobs that wait for functions": list(core.book.functions._waiting),
    }
    found = [f"{len(what)} {name}: {what[:5]}" for name, what in held.items() if what]
    figures: dict[str, float] = {
        "queued tasks": book.queued,
        "resident bytes": book.resident,
        "bytes of orphans": core._orphans._bytes,
    }
    for owner in book.owners.values():
        figures[f"jobs of {owner.name}"] = len(owner.jobs)
        figures[f"unfinished tasks of {owner.name}"] = owner.unfinished
        figures[f"unfinished bytes of {owner.name}"] = owner.unfinished_bytes
        figures[f"assigned tasks of {owner.name}"] = owner.assigned
    for node in book.fleet:
        figures[f"tasks on {node.name}"] = node.held
        figures[f"loads on {node.name}"] = len(node.loads)
        figures[f"wary tasks on {node.name}"] = node.wary
        figures[f"twins on {node.name}"] = len(node.twins)
        figures[f"attempts that are being stopped on {node.name}"] = len(node.stopping)
        taken = {name: node.resources[name] - free for name, free in node.free.items()}
        figures[f"resources of {node.name}"] = round(sum(map(abs, taken.values())), 6)
    return found + [f"{count} {name}" for name, count in figures.items() if count]


def remains_of_node(core: NodeCore) -> list[str]:
    """Entries in a node's books that nobody needs any more."""
    work = core._work
    figures = {
        "held tasks": len(work),
        "doomed tasks": len(work._doomed),
        "waiting tasks": work._work.queue.waiting,
        "functions that are waited for": len(list(work._work.queue.missing())),
        "bytes to be acknowledged": work._outbox.nbytes,
        "tasks asked back": work._recalled,
        "slots in work": core.running,
    }
    return [f"{count} {name}" for name, count in figures.items() if count]


def remains_of_session(session: Session) -> list[str]:
    """Entries in a client's books that nobody needs any more."""
    books = session.books
    figures = {
        "jobs": len(books._jobs),
        "functions": len(books._functions),
        "held tasks": books.held_tasks,
        "held bytes": books.held_bytes,
        "unsent tasks": books.unsent_tasks,
        "questions": len(session._questions),
    }
    return [f"{count} {name}" for name, count in figures.items() if count]
