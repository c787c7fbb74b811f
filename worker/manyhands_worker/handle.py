"""One pool child as the node sees it: its process, its pipe, its control block, its slab."""

from __future__ import annotations

import os
import signal
import socket
import time
from itertools import islice

from manyhands_shared import serial
from manyhands_shared.serial import Buffer, Payload
from manyhands_shared.status import Status
from manyhands_worker import control, pipe
from manyhands_worker.actions import Batch, Block, Finished
from manyhands_worker.child import PoolChild
from manyhands_worker.functions import FunctionCache
from manyhands_worker.process import (
    describe_exit,
    kill_group,
    kill_orphans,
    open_statm,
    read_rss,
    without_main,
)
from manyhands_worker.runner import Limits
from manyhands_worker.slab import SlabError, SlabLedger, new_slab

_MIB = 1 << 20
#: Bytes read of one child before the others get their turn.
_TURN_BYTES = 16 << 20
_STATUSES = frozenset({*Status, control.REVOKED})


class ChildHandle:
    """A running child. Everything here returns at once, whatever the child does.

    Args:
        slot: the number of the slot it serves.
        slab_bytes: size of its slab; 0 for none.
        limits: what bounds the child.

    Raises:
        OSError, EOFError: the system gives no process, descriptor or memory; nothing is left behind.
    """

    def __init__(self, slot: int, slab_bytes: int, limits: Limits) -> None:
        self.slot = slot
        self.started_at = time.monotonic()
        #: Why the node killed it, if it did so because the child had gone wrong.
        self.fault = ""
        #: The core asked for its death.
        self.asked = False
        #: Nothing can be read from it any more.
        self.closed = False
        self.rss = 0
        slab = new_slab(slab_bytes) if slab_bytes else None
        block = control.new_block()
        self.words = control.words(block)
        self.socket, far_end = socket.socketpair()
        try:
            self.process = PoolChild(slot, far_end, block, slab, limits)
            with without_main():
                self.process.start()
        except BaseException:
            self.socket.close()
            raise
        finally:
            far_end.close()
        self.pid = int(self.process.pid or 0)
        self.socket.setblocking(False)
        self._statm = open_statm(self.pid)
        self._reader = pipe.Reader(self.socket)
        self._writer = pipe.Writer(self.socket)
        self._ledger = SlabLedger(slab, self.words)
        self._known: FunctionCache[None] = FunctionCache(limits.function_bytes)

    @property
    def sentinel(self) -> int:
        """A descriptor that can be read when the process is dead."""
        return self.process.sentinel

    @property
    def ready(self) -> bool:
        """Whether it came as far as waiting for work."""
        return bool(self.words[control.READY])

    def send(self, batch: Batch) -> bool:
        """Hand it a batch. Returns whether all of it is in the pipe; if not, `flush` later."""
        buffers: list[Buffer] = []
        code: list[bytes | int | None] = [None]
        if batch.function in self._known:
            self._known.get(batch.function)
        else:
            self._known.put(batch.function, None, serial.nbytes(batch.code))
            code = [*pipe.pack([batch.code], buffers)]
        bodies = pipe.pack(batch.bodies, buffers)
        self.words[control.LIMIT] = control.NO_LIMIT
        return self._write([batch.first, batch.function, code[0], bodies], buffers)

    def _write(self, header: list[object], buffers: list[Buffer]) -> bool:
        try:
            return self._writer.send(header, buffers)
        except OSError:
            return True  # it is dead or dying, and its sentinel says so

    def flush(self) -> bool:
        """Go on sending. Returns whether everything is in the pipe now."""
        try:
            return self._writer.flush()
        except OSError:
            return True

    def retire(self) -> None:
        """Let it leave by itself: nothing more will come."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it is gone already

    def receive(self) -> list[Finished]:
        """Read what it has sent. Sets `closed` at the end of the pipe, `fault` if it is garbage."""
        room = _TURN_BYTES
        try:
            while room > 0 and not self.closed:
                count = self._reader.fill()
                room -= count
                self.closed = not count
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        except pipe.PipeError as error:
            self._lose(f"it wrote {error} to its pipe")
        except MemoryError:
            self._lose("the node has no memory for its result")
        reports = []
        while self._reader.ready:
            header, buffers = self._reader.ready.popleft()
            try:
                reports.append(self._report(header, buffers))
            except (SlabError, TypeError, ValueError, IndexError) as error:
                self._lose(f"it sent what makes no sense ({error})")
        return reports

    def _lose(self, fault: str) -> None:
        self.fault = self.fault or fault
        self.closed = True
        self._reader.ready.clear()

    def _report(self, header: list[object], buffers: list[bytearray]) -> Finished:
        first, statuses, bodies, seconds, _ = header
        if not (
            type(first) is int
            and type(statuses) is bytes
            and type(bodies) is list
            and type(seconds) is float
            and len(statuses) == len(bodies)
            and _STATUSES.issuperset(statuses)
        ):
            raise ValueError("a report of other fields")
        if set(map(type, bodies)) <= {bytes}:
            return Finished(self.slot, first, statuses, bodies, seconds, sum(map(len, bodies)))
        blocks: list[Block] = []
        rest = iter(buffers)
        payloads: list[Payload] = []
        frames = 0
        for body in bodies:
            if isinstance(body, bytes):
                payloads.append(body)
                continue
            if isinstance(body, int):
                parts: tuple[Buffer, ...] = tuple(islice(rest, body))
                if len(parts) != body or not parts:
                    raise ValueError("a result without its buffers")
            else:
                last = first + len(bodies) - 1
                block, parts = self._ledger.take(first, last, body[0], body[1:])
                blocks.append(block)
            frames += len(parts)
            payloads.append(parts)
        nbytes = serial.total(payloads)
        return Finished(self.slot, first, statuses, payloads, seconds, nbytes, frames, blocks)

    def revoke(self, limit: int) -> None:
        """Have it start nothing from serial `limit` on; `claim` is true `SETTLE_SECONDS` later."""
        self.words[control.LIMIT] = limit

    @property
    def claim(self) -> int:
        """Serial of the task that it started last."""
        return int(self.words[control.CLAIM])

    @property
    def busy(self) -> bool:
        """Whether it is in a task."""
        return self.words[control.CLAIM] != self.words[control.DONE]

    def sample(self) -> None:
        """Note how much memory it has."""
        self.rss = read_rss(self._statm) or self.rss

    def kill(self) -> None:
        """SIGKILL it, and whatever it has started."""
        kill_group(self.pid)

    def obituary(self) -> str:
        """How it died, in one line. Only for a child that is dead."""
        code = self.process.exitcode
        text = f"child {self.pid} {describe_exit(code)}"
        if self.fault and code == -signal.SIGKILL:
            text = f"child {self.pid} was killed because {self.fault}"
        if self.busy:
            seconds = (time.monotonic_ns() - self.words[control.STARTED]) / 1e9
            text += f" after {seconds:.1f} s"
        return f"{text}, RSS {self.rss // _MIB} MiB" if self.rss else text

    def bury(self) -> None:
        """Give back everything of a dead child, and kill what it left running."""
        self.closed = True
        kill_orphans(self.pid)
        self.socket.close()
        if self._statm >= 0:
            os.close(self._statm)
        self.process.join()
        self.process.close()
