"""A pool child: the process in which tasks run, one at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from manyhands_shared import tracing
from manyhands_shared.coordination import pool_child
from manyhands_shared.payloads import refs
from manyhands_shared.payloads.by_value.subprocess_main import prepare_inner_processes
from manyhands_shared.processes import descriptors, task_waits
from manyhands_shared.processes.lifecycle import die_with_parent
from manyhands_worker.child.attached_memory import leave_attached_memory_alone
from manyhands_worker.child.inputs.input_loader import InputLoader
from manyhands_worker.child.runner import ChildLimits, Runner
from manyhands_worker.host.process_start import (
    Environment,
    activate,
    hide_key,
    restore_environment,
)
from manyhands_worker.host.processes import (
    BaseProcess,
    lead_group,
    let_fork_server_go,
    limit_threads,
    node_is_gone,
)
from manyhands_worker.ipc.control_block import DISCONNECTED, LENDS, note, words
from manyhands_worker.ipc.output_redirect import OutputRedirect
from manyhands_worker.ipc.pipe import PipeError
from manyhands_worker.ipc.segments import SegmentWriter
from manyhands_worker.ipc.slab import SlabWriter
from manyhands_worker.ipc.stack_pipe import write_stacks_to


def _tell_node(control: memoryview, waits: bool) -> None:
    """Tell the node whether the task waits for tasks."""
    control[LENDS] = waits


class PoolChild(BaseProcess):
    """The process of one slot.

    Everything it shares with the node is handed over here, at its start.

    Args:
        slot: its number.
        sock: one end of a socket pair.
        control: its control block (see `control_block`).
        slab: its slab (see `slab`), or None.
        marks: the marks of its segments (see `segments`).
        output: the pipes for its output and the secret of its marks (see `output_redirect`).
        stacks: the pipe for its stacks (see `stack_pipe`).
        limits: what bounds it.
    """

    #: Runs it; None: the node's own.
    environment: Environment | None = None

    def __init__(
        self,
        slot: int,
        sock: socket.socket,
        control: Any,
        slab: Any,
        marks: Any,
        output: tuple[tuple[Connection[Any, Any], Connection[Any, Any]], bytes],
        stacks: Connection[Any, Any],
        limits: ChildLimits,
    ) -> None:
        super().__init__(name=f"manyhands-child-{slot}")
        self._slot = slot
        self._socket = sock
        self._control = control
        self._slab = slab
        self._marks = marks
        self._output = output
        self._stacks = stacks
        self._limits = limits

    # The name is multiprocessing's.
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        """Fork it from the fork server; in an environment of its own, start that interpreter."""
        if process_obj.environment is None:
            return BaseProcess._Popen(process_obj)
        from multiprocessing.popen_spawn_posix import Popen  # noqa: PLC0415 - for jobs with requirements

        return Popen(process_obj)

    def run(self) -> None:
        """Serve until the node closes the pipe, or the node is gone."""
        # As the fork server did, for what was forked from it.
        hide_key()
        restore_environment()
        if self.environment is not None:
            activate(self.environment)
        multiprocessing.set_start_method(
            None, force=True
        )  # a task's processes start as a script's do
        lead_group()
        die_with_parent()
        let_fork_server_go()
        if node_is_gone():  # it died before the line above could matter
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        limit_threads(self._limits.threads)
        descriptors.limit(self._limits.descriptors)
        prepare_inner_processes()
        pool_child.agent_address = self._limits.agent
        task_waits.report = partial(_tell_node, words(self._control))
        pool_child.slot = self._slot
        leave_attached_memory_alone()
        control = words(self._control)
        slab = SlabWriter(self._slab, control)
        discard = self._limits.discard_output
        output = OutputRedirect(*self._output, control, discard=discard)
        output.take_streams()
        write_stacks_to(self._stacks)
        segments = SegmentWriter(self._marks, self._limits.segment_bytes)
        input_loader = InputLoader(self._limits.lender)
        if self._limits.lender:
            refs.set_bring(input_loader.bring)
        runner = Runner(self._socket, control, slab, segments, output, input_loader, self._limits)
        descriptors.close_on_exec()
        # A handler, for programs that tasks start would ignore what is ignored here.
        signal.signal(signal.SIGINT, runner.interrupt)
        tracing.note = partial(note, control)
        os.register_at_fork(before=runner.before_fork, after_in_child=runner.disown)
        os.register_at_fork(after_in_child=tracing.disown)
        try:
            runner.serve()
        except (OSError, PipeError) as error:
            # A pipe that broke is for the node to explain, which sees it from its side. Any other
            # error is the work of a task, which has taken this end away.
            if not isinstance(error, BrokenPipeError | ConnectionResetError):
                os._exit(DISCONNECTED)
        tracing.flush()
