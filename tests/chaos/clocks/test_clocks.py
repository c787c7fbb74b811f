"""Row 31: nothing is decided by the wall clock, which people and NTP may move at any time."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PARTS = ["broker/manyhands_broker", "worker/manyhands_worker", "shared/manyhands_shared"]
PARTS += ["client/manyhands"]

#: Where the wall clock's time is read, and why nothing is decided by it.
FOR_PEOPLE = {
    "broker/manyhands_broker/server.py": "when jobs were submitted, as it is shown and kept",
    "broker/manyhands_broker/journal/salvage.py": "what a damaged file that is set aside is called",
    "broker/manyhands_broker/http/service.py": "when the broker was started, as a metric",
    "client/manyhands/_code/surroundings.py": "how old a file is, by the times of its file system",
    "client/manyhands/_code/program.py": "how old a file is, by the times that its file system gives",
    "client/manyhands/loadtest/run.py": "when the report was made",
    "client/manyhands/cli/jobs.py": "how long ago that was",
    "client/manyhands/cli/show.py": "the same, of one job",
    "broker/manyhands_broker/coordination_service.py": "when programs began, for their list",
    "client/manyhands/cli/ps.py": "how long ago that was",
    "client/manyhands/cli/_top/columns.py": "when a job was submitted, a task ended, by the broker",
    "client/manyhands/_submit/tracing.py": "when a task's span begins",
    "shared/manyhands_shared/tracing.py": "when the spans of a running task begin",
    "worker/manyhands_worker/pool/lost_spans.py": "when the span of a killed task ended",
    "shared/manyhands_shared/logs.py": "when a line of the log was written",
    "shared/manyhands_shared/programs/task.py": "when a program began, for the log",
    "client/manyhands/cli/_programs/ending.py": "the same, of one that did not say so",
}
_WALL = {"time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime"}


def wall_clock_reads(source: str) -> list[int]:
    """Lines that ask for the time of day."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr=name) if name in _WALL:
                lines.append(node.lineno)
            case ast.Attribute(attr="now" | "utcnow" | "today" | "CLOCK_REALTIME"):
                value = node.value
                if isinstance(value, ast.Name) and value.id in ("datetime", "date", "time"):
                    lines.append(node.lineno)
            case ast.ImportFrom(module="time", names=names):
                lines += [node.lineno for alias in names if alias.name in _WALL]
            case ast.ImportFrom(module="datetime"):
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("part", PARTS)
def test_only_what_is_shown_reads_the_wall_clock(part: str) -> None:
    found = {
        str(file.relative_to(ROOT)): lines
        for file in sorted((ROOT / part).rglob("*.py"))
        if (lines := wall_clock_reads(file.read_text(encoding="utf-8")))
    }
    assert not set(found) - set(FOR_PEOPLE), f"reads the wall clock: {found}"


def test_the_search_finds_each_way_of_asking() -> None:
    source = "import time, datetime\nfrom time import time\ntime.time()\ndatetime.now()\n"
    assert wall_clock_reads(source) == [2, 3, 4]
    assert wall_clock_reads("import time\ntime.monotonic()\n") == []
