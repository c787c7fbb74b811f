"""What tasks have printed: into the journal of durable jobs, to the terminals of other jobs' clients."""

from __future__ import annotations

from manyhands_shared.protocol import messages as m
from manyhands_worker.core.events import Printed
from manyhands_worker.core.job_rules import JobRules
from manyhands_worker.core.output.echo_buffer import EchoBuffer
from manyhands_worker.core.output.output_buffer import OutputBuffer
from manyhands_worker.core.scheduling.slots import SlotScheduler
from manyhands_worker.core.task_set import TaskSet


class TaskOutput:
    """Finds whose output it is, and keeps it until it can be sent.

    Args:
        scheduler: knows which tasks the slots have.
        owned: the node's tasks.
        jobs: the rules of their jobs.
    """

    def __init__(self, scheduler: SlotScheduler, owned: TaskSet, jobs: JobRules) -> None:
        self._scheduler = scheduler
        self._owned = owned
        self._jobs = jobs
        self._journal = OutputBuffer()
        self._echo = EchoBuffer()

    def add(self, event: Printed) -> None:
        """Add what a child has printed."""
        if event.stream:
            printer = self._scheduler.printer(event.slot, event.serial)
            if printer is not None:
                apart = self._jobs.has_prefix(printer[0][0])
                self._echo.add(*printer, event.stream, event.text, apart=apart)
            return
        task = self._scheduler.holder(event.slot, event.serial)
        if task is not None and self._owned.has(*task):
            (job, attempt), index = task
            self._journal.add(m.Output(job, attempt, index, event.text))

    def take(self) -> list[m.Output | m.Printed | m.Ping]:
        """Return what is to be sent now."""
        messages: list[m.Output | m.Printed | m.Ping] = [*self._journal.take()]
        if self._echo:
            messages += self._echo.take()
        return messages

    def heard_of(self, ping: int) -> None:
        """Note that the broker has read what was echoed up to this ping."""
        self._echo.heard_of(ping)

    def relinked(self) -> None:
        """Note that there is a new link."""
        self._echo.relinked()
