"""One pool child as the node sees it: its process, its pipe, its control block, its slab."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Pipe
from typing import TYPE_CHECKING

from manyhands_shared.payloads.payload import Buffer, nbytes
from manyhands_shared.programs.recognition import runs_programs
from manyhands_shared.shm import Lender
from manyhands_worker.child.process import PoolChild
from manyhands_worker.child.runner import ChildLimits
from manyhands_worker.core.events import Died, Finished, Printed
from manyhands_worker.core.model import Batch, Key
from manyhands_worker.function_cache import FunctionCache
from manyhands_worker.host.process_start import Environment, starting
from manyhands_worker.host.processes import (
    describe_exit,
    kill_group,
    kill_orphans,
    open_statm,
    read_rss,
)
from manyhands_worker.ipc import control_block, pipe
from manyhands_worker.ipc.output_capture import ECHO, ECHO_TASKS, LOG, NOTHING, Capture
from manyhands_worker.ipc.output_redirect import new_secret
from manyhands_worker.ipc.segments import new_marks
from manyhands_worker.ipc.slab import SlabError, SlabLedger, new_slab
from manyhands_worker.ipc.stack_pipe import StackPipe
from manyhands_worker.pool.report_reader import ReportReader
from manyhands_worker.pool.task_memory import TaskMemory

if TYPE_CHECKING:
    from pathlib import Path

    from manyhands_worker.values.result_server import ResultServer

_MIB = 1 << 20
#: Bytes read of one child before the others get their turn.
_TURN_BYTES = 16 << 20
#: A loan ends this time after its reason: a task that waits again and again costs no child each time.
_LOAN_SECONDS = 1.0


class ChildHandle:
    """A running child. Everything here returns at once, whatever the child does.

    Args:
        slot: the number of the slot it serves.
        slab_bytes: size of its slab; 0 for none.
        limits: what bounds the child.
        lender: lends its results out to be fetched; None: they all go through the node.
        server: serves them to clients of other hosts.
        environment: runs it; None: the node's own.
        environment_name: the digest of its requirements.

    Raises:
        OSError, EOFError: the system gives no process, descriptor or memory; nothing is left behind.
    """

    def __init__(
        self,
        slot: int,
        slab_bytes: int,
        limits: ChildLimits,
        lender: Lender | None = None,
        server: ResultServer | None = None,
        environment: Environment | None = None,
        environment_name: bytes = b"",
    ) -> None:
        self.slot, self.environment_name = slot, environment_name
        self._direct = lender is not None
        self.started_at = time.monotonic()
        #: Why the node killed it, if it did so because the child had gone wrong.
        self.fault = ""
        #: The core asked for its death.
        self.asked = False
        #: The task that it was killed for, and that task's timeout in seconds.
        self.expired = (0, 0.0)
        #: The bytes that that task might have and what it had, if it was killed for these.
        self.overused = (0, 0)
        #: Some of its tasks have had their output captured. The job whose tasks it was given last, and
        #: the last of their serials; the last that it has reported.
        self.captures = False
        #: The descriptors of its output that are waited for.
        self.heard: list[int] = []
        self._job = ""
        self._given = self._reported = 0
        #: When to look whether its task runs too long.
        self.check_at = math.inf
        #: Nothing can be read from it any more.
        self.closed = False
        #: Its task waits for tasks; the serial of the last one that did, and when that was seen.
        self.lends = False
        self.lending = 0
        self._lent_at = -math.inf
        self.rss = 0
        slab = new_slab(slab_bytes) if slab_bytes else None
        block, marks = control_block.new_block(), new_marks()
        self.words = control_block.words(block)
        secret = new_secret()
        with contextlib.ExitStack() as near, contextlib.ExitStack() as far:
            self.socket, far_end = socket.socketpair()
            near.enter_context(self.socket)
            far.enter_context(far_end)
            outputs, ends = [], []
            for _ in range(2):
                out, end = Pipe(duplex=False)
                outputs.append(near.enter_context(out))
                ends.append(far.enter_context(end))
            output = (ends[0], ends[1]), secret
            stacks, end = Pipe(duplex=False)
            near.enter_context(stacks)
            far.enter_context(end)
            self.process = PoolChild(slot, far_end, block, slab, marks, output, end, limits)
            self.process.environment = environment
            with starting(environment):
                self.process.start()
            near.pop_all()
        self.output, self.stacks = Capture((outputs[0], outputs[1]), secret), StackPipe(stacks)
        # First serial, job and attempt, and indices of the last batches: at most two are not over.
        self._batches: deque[tuple[int, Key, list[int]]] = deque(maxlen=4)
        # Batches with a timeout that are not over: their serials, and the timeout in seconds.
        self._timed: deque[tuple[range, float]] = deque()
        self.pid = int(self.process.pid or 0)
        self.socket.setblocking(False)
        self._statm = open_statm(self.pid)
        self.memory = TaskMemory(self.pid)
        self._reader = pipe.Reader(self.socket)
        self._writer = pipe.Writer(self.socket)
        self.reports = ReportReader(
            slot,
            self._reader.fds,
            SlabLedger(slab, self.words),
            memoryview(marks).cast("B"),
            lender,
            server,
        )
        self._known: FunctionCache[None] = FunctionCache(limits.function_bytes)
        #: The bundle that it was given.
        self.bundle = b""

    @property
    def sentinel(self) -> int:
        """A descriptor that can be read when the process is dead."""
        return self.process.sentinel

    @property
    def ready(self) -> bool:
        """Whether it came as far as waiting for work."""
        return bool(self.words[control_block.READY])

    def send(
        self, batch: Batch, modules: Path | None = None, variables: dict[str, str] | None = None
    ) -> bool:
        """Hand it a batch. Returns whether all of it is in the pipe; if not, `flush` later.

        `modules`: the directory of the batch's bundle, if the child was not given that yet. `variables`:
        of the environment, for this batch alone.
        """
        buffers: list[Buffer] = []
        name, code = self._introduce(batch, buffers)
        brought = None if modules is None else self._bring(batch, modules, buffers)
        bodies = pipe.pack(batch.bodies, buffers)
        rules = batch.rules
        flags = pipe.AT_ONCE * rules.at_most_once | self._listening(batch)
        if rules.direct and self._direct:
            flags |= pipe.DIRECT
        flags |= pipe.SAFE * rules.safe | pipe.FOREIGN * rules.foreign
        flags |= pipe.GROUPED * runs_programs(batch.code)
        self.reports.once = self.reports.once or rules.at_most_once
        if rules.timeout:
            self._time(batch)
        # A batch with a limit has the child to itself.
        self.memory.begin(rules.memory)
        grant = None
        if rules.has_slot_to_itself:
            grant = [variables or {}, rules.memory, self.memory.place if rules.memory else ""]
        self._batches.append((batch.first, batch.key, batch.indices))
        self.words[control_block.LIMIT] = control_block.NO_LIMIT
        header: list[object] = [batch.first, name, code, flags, brought, grant, bodies]
        if rules.trace:
            header[3] = flags | pipe.TRACE
            header.append([*batch.key, batch.indices, time.monotonic_ns()])
        return self._write(header, buffers)

    def _bring(self, batch: Batch, modules: Path, buffers: list[Buffer]) -> list[object]:
        """What the child needs to have the bundle: all of it if it is not unpacked yet."""
        self.bundle = batch.rules.bundle
        payloads = [] if modules.is_dir() else [batch.modules]
        return [str(modules), self.bundle, pipe.pack(payloads, buffers)]

    def _listening(self, batch: Batch) -> int:
        """Flags that say what becomes of what these tasks print."""
        rules, kind = batch.rules, NOTHING
        flags = pipe.CAPTURE * (rules.capture or rules.echo)
        flags |= pipe.APART * (rules.echo and not rules.capture)
        if rules.capture:
            kind = LOG
        elif rules.echo:
            kind = ECHO_TASKS if rules.prefix else ECHO
        if kind in (LOG, ECHO_TASKS):
            flags |= pipe.EACH
        idle, self._given = self._given == self._reported, batch.first + len(batch.indices) - 1
        if batch.key[0] != self._job:
            self._job = batch.key[0]
            if flags or self.captures:
                self.output.expect(batch.first, kind)
                # What the child prints from now on is its; but what is printed already is not.
                if not idle or self.output.has_more():
                    flags |= pipe.MARK * bool(flags)
                else:
                    self.output.begin(batch.first)
        self.captures = self.captures or bool(flags)
        return flags

    def _introduce(self, batch: Batch, buffers: list[Buffer]) -> tuple[bytes, list[object] | None]:
        """What the child calls the function, and what it needs to have it; None if it has it."""
        parents = batch.parents
        name = batch.function if parents is None else parents.name
        if name in self._known:
            self._known.get(name)
            return name, None
        size, payloads, counts = nbytes(batch.code), [batch.code], []
        if parents is not None:
            size += parents.nbytes
            counts = [len(results) for results in parents.lists]
            payloads += [body for results in parents.lists for body in results]
        self._known.put(name, None, size)
        return name, [counts, pipe.pack(payloads, buffers)]

    # Timeouts

    def _time(self, batch: Batch) -> None:
        self._forget_timed()
        serials = range(batch.first, batch.first + len(batch.indices))
        self._timed.append((serials, batch.rules.timeout))
        due = time.monotonic() + batch.rules.timeout
        self.check_at = min(self.check_at, due)

    def _forget_timed(self) -> None:
        while self._timed and self._timed[0][0][-1] <= self.words[control_block.DONE]:
            self._timed.popleft()

    def runs_too_long(self, now: float) -> bool:
        """Whether its task is to be killed for its timeout. Sets `check_at` for the next look."""
        self._forget_timed()
        # What is started from now on has its whole time.
        self.check_at = min((now + timeout for _, timeout in self._timed), default=math.inf)
        claim, started, busy = self.claim, self.words[control_block.STARTED] / 1e9, self.busy
        if not busy or claim != self.claim:
            return False  # it is between two tasks
        for serials, timeout in self._timed:
            if claim in serials:
                if started + timeout <= now:
                    self.expired, self.check_at = (claim, timeout), math.inf
                    return True
                self.check_at = started + timeout
        return False

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

    def receive(self, *, last: bool = False) -> list[Finished]:
        """Read what it has sent; `last`: all of it, for it is dead.

        Sets `closed` at the end of the pipe, `fault` if it is garbage.
        """
        room = _TURN_BYTES
        try:
            while room > 0 and not self.closed:
                count = self._reader.fill()
                room -= count
                self.closed = not count
                if not (last or self._reader.hungry):
                    break  # mostly that was all; if not, the socket can still be read
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
                reports.append(self.reports.read(header, buffers))
            except (SlabError, TypeError, ValueError, IndexError) as error:
                self._lose(f"it sent what makes no sense ({error})")
        return reports

    def _lose(self, fault: str) -> None:
        self.fault = self.fault or fault
        self.closed = True
        self._reader.ready.clear()

    def revoke(self, limit: int) -> None:
        """Have it start nothing from serial `limit` on; `claim` is true `SETTLE_SECONDS` later."""
        self.words[control_block.LIMIT] = limit

    @property
    def claim(self) -> int:
        """Serial of the task that it started last."""
        return int(self.words[control_block.CLAIM])

    @property
    def busy(self) -> bool:
        """Whether it is in a task."""
        return self.words[control_block.CLAIM] != self.words[control_block.DONE]

    @property
    def task(self) -> tuple[Key, int] | None:
        """The job, attempt and index of the task that it is in, if it is in one."""
        if not self.busy:
            return None
        for first, key, indices in self._batches:
            if first <= self.claim < first + len(indices):
                return key, indices[self.claim - first]
        return None

    def look_whether_lends(self, now: float) -> bool:
        """Look whether its task waits for tasks; return whether that is news, or another task does."""
        before, claim = (self.lends, self.lending), self.claim
        if self.words[control_block.LENDS]:
            self._lent_at, self.lending = now, claim
        self.lends = now - self._lent_at < _LOAN_SECONDS
        return before != (self.lends, self.lending)

    def forget_loan(self) -> bool:
        """Take it that its next task waits for none; return whether the one before did."""
        lent, self.lends, self.lending, self._lent_at = self.lends, False, 0, -math.inf
        return lent

    def uses_too_much(self, now: float) -> bool:
        """Whether its task is to be killed for the memory that it has."""
        claim, used = self.claim, self.memory.excess(now)
        if not used or not self.busy or claim != self.claim:
            return False
        self.expired, self.overused = (claim, 0.0), (self.memory.limit, used)
        return True

    def sample(self) -> None:
        """Note how much memory it has."""
        self.rss = read_rss(self._statm) or self.rss

    def kill(self) -> None:
        """SIGKILL it, and whatever it has started."""
        kill_group(self.pid)

    @property
    def shot(self) -> bool:
        """Whether it died of a SIGKILL that did not come from here. Only for one that is dead."""
        return self.process.exitcode == -signal.SIGKILL and not (self.fault or self.asked)

    def printed(self, *, last: bool = False) -> list[Printed]:
        """What its tasks have printed and is to go out; `last`: all of it, for it is dead."""
        parts = self.output.read(time.monotonic())
        if last:
            parts += self.output.finish(self._given, idle=True)
        return [Printed(self.slot, *part) for part in parts]

    def printed_before(self, reports: list[Finished]) -> list[Printed]:
        """What its tasks have printed before these reports, for what comes first is told first."""
        for report in reports:
            self._reported = max(self._reported, report.first + len(report.statuses) - 1)
        output = self.output
        parts = output.read(time.monotonic()) if output.has_more() else []
        if output.waits:
            parts += output.finish(self._reported, idle=self.claim <= self._reported)
        return [Printed(self.slot, *part) for part in parts]

    def hear(
        self,
        selector: selectors.BaseSelector,
        wanted: Sequence[int] = (),
        handle: Callable[[int], None] | None = None,
    ) -> None:
        """Have `handle` called when its output can be read at these descriptors, and no others."""
        for fd in self.heard:
            selector.unregister(fd)
        for fd in wanted:
            selector.register(fd, selectors.EVENT_READ, handle)
        self.heard = list(wanted)

    def death(self, oom: str = "") -> Died:
        """What its death means for its tasks; arguments as for `describe_death`."""
        if self.shot and self.memory.limit and self.memory.has_killed:
            self.expired, self.overused = (self.claim, 0.0), (self.memory.limit,) * 2
        task, timeout = self.expired
        # It may have ended just in time, and the next one may have begun.
        in_time = not self.busy or self.claim != task
        blamed = self.claim if self.busy and not (self.asked and in_time) else 0
        return Died(
            self.slot,
            self.claim,
            blamed,
            self.describe_death(oom),
            self.asked,
            0.0 if in_time else timeout,
            self.output.last_words(blamed) if blamed else "",
            (0, 0) if in_time else self.overused,
            (self.words[control_block.STARTED] / 1e9, self.rss // 1024) if blamed else None,
        )

    def describe_death(self, oom: str = "") -> str:
        """How it died, in one line. Only for a child that is dead. `oom`: words for what shot it."""
        code = self.process.exitcode
        text = f"child {self.pid} {oom or describe_exit(code)}"
        if code == control_block.DISCONNECTED:
            text = f"child {self.pid} ended, for a task closed its connection to the node"
        if self.fault and code == -signal.SIGKILL:
            text = f"child {self.pid} was killed because {self.fault}"
        if self.busy:
            seconds = (time.monotonic_ns() - self.words[control_block.STARTED]) / 1e9
            text += f" after {seconds:.1f} s"
        return f"{text}, RSS {self.rss // _MIB} MiB" if self.rss else text

    def release(self) -> None:
        """Give back everything of a dead child, and kill what it left running."""
        self.closed = True
        kill_orphans(self.pid)
        self._reader.close()
        self.socket.close()
        self.output.close()
        self.stacks.close()
        if self._statm >= 0:
            os.close(self._statm)
        self.process.join()
        self.process.close()
