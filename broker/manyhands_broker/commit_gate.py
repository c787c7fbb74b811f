"""What leaves the broker while its journal has no room.

What is said may rest on what is not written yet, so it waits. Signs of life, welcomes and refusals
promise nothing. An answer leaves if nothing was to be written for it. To forget a job takes only the
room that the journal keeps for that, and makes some. So clients come in, see what there is, read and
make room.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from manyhands_broker.core import Effect, Persist, Send
from manyhands_broker.core.records import JobForgotten, JobOpened
from manyhands_broker.journal import Journal, JournalFull
from manyhands_shared.protocol.messages import (
    ClientWelcome,
    Detach,
    Lease,
    Message,
    Ping,
    Pong,
    Refused,
    Rejected,
    Reply,
    Results,
    Who,
)

#: Messages that rest on nothing that is to be written.
PROMISE_NOTHING = (ClientWelcome, Detach, Lease, Ping, Pong, Refused, Rejected, Who)


def commit(journal: Journal, effects: list[Effect]) -> None:
    """Write what the journal was given of `effects`; jobs to forget go first if not all has room.

    Raises:
        JournalFull: there is no room.
    """
    try:
        journal.commit()
    except JournalFull:
        if len(forget(journal, effects)) == len(effects):
            raise
        journal.commit()


def forget(journal: Journal, effects: list[Effect]) -> list[Effect]:
    """Write at once that jobs are forgotten; returns the effects that are left."""
    records = [effect.record for effect in effects if isinstance(effect, Persist)]
    # Of a name that is used anew, the new job's records may stand behind.
    again = {record.job for record in records if isinstance(record, JobOpened)}
    left: list[Effect] = []
    for effect in effects:
        if (
            isinstance(effect, Persist)
            and isinstance(effect.record, JobForgotten)
            and effect.record.job not in again
        ):
            with contextlib.suppress(JournalFull):
                journal.forget(effect.record.job)
                continue
        left.append(effect)
    return left


def send(effects: list[Effect], post: Callable[[bytes, Message], object]) -> list[Effect]:
    """Send of the effects of one event what may leave; returns those that wait."""
    writes = any(isinstance(effect, Persist) for effect in effects)
    free = PROMISE_NOTHING if writes else (*PROMISE_NOTHING, Reply)
    left: list[Effect] = []
    for effect in effects:
        if isinstance(effect, Send) and isinstance(effect.message, free):
            post(effect.peer, effect.message)
        else:
            left.append(effect)
    return left


def read(
    pages: list[Effect], waiting: list[Effect], post: Callable[[bytes, Message], object]
) -> list[Effect]:
    """Send what readers are to have; returns what must not overtake results that wait already."""
    behind = {
        effect.peer
        for effect in waiting
        if isinstance(effect, Send) and isinstance(effect.message, Results)
    }
    left: list[Effect] = []
    for effect in pages:
        if isinstance(effect, Send) and effect.peer not in behind:
            post(effect.peer, effect.message)
        else:
            left.append(effect)
    return left
