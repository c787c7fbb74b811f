"""What running tasks do, for a page: their stacks now, or a profile of many looks at a job's tasks."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from manyhands_shared.profiling import flame_graph, speedscope
from manyhands_shared.profiling.stacks import counted, shares
from manyhands_shared.text import amount

#: Asks the broker: kind, what, arguments, key of who asks.
Ask = Callable[[str, str, dict[str, Any], str], Awaitable[Any]]
#: Seconds for which a job may be profiled, and how many pages may have one at a time.
SECONDS = (0.1, 60.0)
MOST_PROFILES = 4
#: Nodes that are asked, for stacks and for a profile; stacks that one page is shown.
_STACK_NODES, _PROFILE_NODES = 16, 64
_MOST_STACKS = 200
#: Seconds between two questions whether a node has answered: the first, and the longest.
_SOON, _LATER = 0.05, 0.5
#: Seconds for an answer beyond the time for which a node looks. The broker itself gives it 15.
_PATIENCE = 30.0


class Inspector:
    """Asks nodes, through the broker.

    Args:
        ask: the way to the broker's loop.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._profiles = 0

    async def stacks(self, wanted: dict[str, Any], key: str) -> dict[str, Any]:
        """Return the stacks of what runs on a `node`, of a job by `id`, or of one `task` of that.

        Raises:
            LookupError: they cannot be had; the text says why.
        """
        if "node" in wanted:
            answers = [await self._answer("stacks_of_node", {"node": wanted["node"]}, 0.0, key)]
            notes: list[str] = []
        elif "task" in wanted:
            asked = {"id": wanted["id"], "task": wanted["task"]}
            answers, notes = [await self._answer("stacks", asked, 0.0, key)], []
        else:
            answers, notes = await self._of_job(wanted["id"], 0.0, _STACK_NODES, key)
        stacks = [{"node": one["node"], **stack} for one in answers for stack in one["stacks"]]
        if len(stacks) > _MOST_STACKS:
            notes.append(f"of {len(stacks):,} running tasks, {_MOST_STACKS} are shown")
        return {"stacks": stacks[:_MOST_STACKS], "notes": notes}

    async def profile(self, job: str, seconds: float, key: str) -> dict[str, Any]:
        """Return where the tasks of a job spent this time: counts, a drawing, a file for speedscope.

        Raises:
            LookupError: it cannot be had; the text says why.
        """
        if self._profiles >= MOST_PROFILES:
            raise LookupError(f"{MOST_PROFILES} profiles are under way: try again in a while")
        self._profiles += 1
        try:
            answers, notes = await self._of_job(job, seconds, _PROFILE_NODES, key)
        finally:
            self._profiles -= 1
        return await asyncio.to_thread(_drawn, job, seconds, answers, notes)

    async def _of_job(
        self, job: str, seconds: float, most: int, key: str
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the answers of the nodes that run a job, and what is to be said about the others."""
        names: list[str] = await self._answer("nodes_of", {"id": job}, 0.0, key)
        notes = []
        if len(names) > most:
            notes.append(f"of {len(names):,} nodes that run it, {most} are looked at")
        arguments = [{"id": job, "on_node": name, "seconds": seconds} for name in names[:most]]
        asked = (self._answer("stacks", one, seconds, key) for one in arguments)
        came = await asyncio.gather(*asked, return_exceptions=True)
        answers = [one for one in came if isinstance(one, dict)]
        errors = [one for one in came if isinstance(one, BaseException)]
        for error in errors:
            if not isinstance(error, LookupError | TimeoutError) or not answers:
                raise error
            notes.append(str(error.args[0]))
        return answers, notes

    async def _answer(self, what: str, arguments: dict[str, Any], seconds: float, key: str) -> Any:
        asked = await self._ask("inspect", what, arguments, key)
        give_up = time.monotonic() + seconds + _PATIENCE
        pause = _SOON
        await asyncio.sleep(seconds)
        while time.monotonic() < give_up:
            told = await self._ask("inspected", "", asked, key)
            if told["there"]:
                return told["found"]
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LATER)
        raise TimeoutError("a node has not answered")


def _drawn(
    job: str, seconds: float, answers: list[dict[str, Any]], notes: list[str]
) -> dict[str, Any]:
    counts = counted(stack for one in answers for stack in one["stacks"])
    if not counts:
        raise LookupError("no task of this job ran meanwhile; the page says what it waits for")
    left_out = sum(one["left_out"] for one in answers)
    if left_out:
        notes.append(f"{amount(left_out, 'look')} left out: no room for their stacks")
    looks = counts.total()
    title = f"job {job}: {amount(looks, 'look')} in {seconds:g} s"
    return {
        "name": f"profile-{re.sub(r'[^0-9A-Za-z_]', '', job)[:8]}",
        "looks": looks,
        "seconds": seconds,
        "nodes": len(answers),
        "notes": notes,
        "functions": [one._asdict() for one in shares(counts)],
        "svg": flame_graph.draw(title, counts),
        "speedscope": speedscope.document(title, counts),
    }
