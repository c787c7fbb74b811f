"""What leaves the broker while its journal has no room.

A commit that fails for lack of room is tried again each second. Until it succeeds nothing leaves that
may rest on what is not written yet. Leases go on, so running work is not lost, and no peer is told of
anything that a restart would forget. (Submissions are refused long before, while there is still room for
results. So this happens where another program fills the disk.)

What is said may rest on what is not written yet, so it waits. Signs of life, welcomes and refusals
promise nothing. An answer leaves if nothing was to be written for it. To forget a job takes only the
room that the journal keeps for that, and makes some. So clients come in, see what there is, read and
make room.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from manyhands_broker.core import Effect, Persist, Say, Send
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

log = logging.getLogger("manyhands.broker")

#: Between two attempts to commit to a journal without room.
ROOM_WAIT = 1.0
#: Withheld effects above which nothing more is read.
MAX_WITHHELD = 10_000
#: Messages that rest on nothing that is to be written.
PROMISE_NOTHING = (ClientWelcome, Detach, Lease, Ping, Pong, Refused, Rejected, Who)


class CommitGate:
    """Writes what the scheduler has decided before the rest of it is performed; withholds that else.

    Args:
        journal: where it is written.
        post: sends a message to a peer.
        pause: has the ports read nothing, or again.
    """

    def __init__(
        self,
        journal: Journal,
        post: Callable[[bytes, Message], object],
        pause: Callable[[bool], None],
    ) -> None:
        self._journal = journal
        self._post = post
        self._pause = pause
        self._paused = False
        self._next_commit = 0.0
        #: Whether readers were sent something in the meantime, so that there may be more.
        self._reading = False
        #: What waits for room in the journal. Nothing is withheld while it is empty.
        self.withheld: list[Effect] = []

    @property
    def due(self) -> float:
        """When there is something to do while effects are withheld."""
        return 0.0 if self._reading else self._next_commit

    def commit(self, effects: list[Effect], now: float) -> list[Effect]:
        """Write what `effects` ask for, and return what is to be performed; nothing without room."""
        for effect in effects:
            if isinstance(effect, Persist):
                self._journal.append(effect.record)
        withheld = self.withheld
        if withheld:
            effects = withheld + effects
        if (withheld and now < self._next_commit) or not self._write(effects, now):
            self._withhold(effects)
            return []
        if withheld:
            log.warning("there is room in the journal again")
            self.withheld = []
            self._set_pause(on=False)
        return effects

    def admit(self, caused: list[Effect], now: float) -> list[Effect]:
        """Send at once what may leave of the effects of one event; return those that wait."""
        left = _forget(self._journal, caused)
        if len(left) < len(caused):
            self._next_commit = now  # there may be room now
        return _send_free(left, self._post)

    def read_on(self, pages: list[Effect]) -> None:
        """Send readers what the journal holds, while it cannot be written."""
        self._reading = bool(pages)
        if pages:
            self.withheld += _send_pages(pages, self.withheld, self._post)

    def _write(self, effects: list[Effect], now: float) -> bool:
        try:
            _write(self._journal, effects)
        except JournalFull as error:
            if not self.withheld:
                log.error("%s; nothing goes on until then", error)  # noqa: TRY400 - one line
            self._next_commit = now + ROOM_WAIT
            return False
        return True

    def _withhold(self, effects: list[Effect]) -> None:
        """Keep back all that may rest on what is not written."""
        self.withheld = []
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, PROMISE_NOTHING):
                # Should the link be gone, the next send over it says so.
                self._post(effect.peer, effect.message)
            elif not isinstance(effect, Persist):
                self.withheld.append(effect)
        # Never empty: it also says that there is something to commit.
        self.withheld = self.withheld or [Say(logging.DEBUG, "nothing was withheld")]
        if len(self.withheld) >= MAX_WITHHELD:
            self._set_pause(on=True)

    def _set_pause(self, *, on: bool) -> None:
        if on is not self._paused:
            self._paused = on
            self._pause(on)


def _write(journal: Journal, effects: list[Effect]) -> None:
    """Write what the journal was given of `effects`; jobs to forget go first if not all has room.

    Raises:
        JournalFull: there is no room.
    """
    try:
        journal.commit()
    except JournalFull:
        if len(_forget(journal, effects)) == len(effects):
            raise
        journal.commit()


def _forget(journal: Journal, effects: list[Effect]) -> list[Effect]:
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


def _send_free(effects: list[Effect], post: Callable[[bytes, Message], object]) -> list[Effect]:
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


def _send_pages(
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
