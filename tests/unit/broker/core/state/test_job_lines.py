"""The log's lines about jobs."""

from __future__ import annotations

import logging

from harness.worlds.broker import World
from manyhands_broker.core.effects import Effect, Say
from manyhands_broker.core.state.job_lines import LINES_A_SECOND, JobLines


def test_each_job_has_a_line_at_its_begin_and_its_end() -> None:
    class Listening(World):
        lines: list[Say] = []  # noqa: RUF012 - of this one world

        def do(self, effects: list[Effect]) -> None:
            self.lines += [one for one in effects if isinstance(one, Say)]
            super().do(effects)

    world = Listening()
    world.client()
    world.node()
    last = world.lines[-1]
    assert (last.job, last.text) == ("", f"node {last.node} joined with 2 slots")
    assert last.node
    world.submit(2)
    last = world.lines[-1]
    assert last.text.startswith("job job of ")
    assert last.text.endswith(" begins: f")
    assert (last.job, last.node) == ("job", "")
    world.run_all()
    assert world.lines[-1] == Say(logging.INFO, "job job is over: done, 2 tasks", "job")


def test_a_flood_of_jobs_is_no_flood_of_lines() -> None:
    said: list[tuple[int, str, str]] = []
    lines = JobLines(lambda level, text, job="": said.append((level, text, job)))
    for number in range(LINES_A_SECOND + 5):
        lines.tell(str(number), f"job {number}", 1.0 + number / 1_000)
    assert len(said) == LINES_A_SECOND
    lines.tell("id", "one more", 2.5)
    assert said[-2:] == [
        (logging.INFO, "5 more jobs began or ended", ""),
        (logging.INFO, "one more", "id"),
    ]
    for number in range(LINES_A_SECOND):
        lines.tell(str(number), f"job {number}", 2.6)
    lines.tell("id", "the last", 3.0)
    assert said[-2][1] == "1 more job began or ended"
