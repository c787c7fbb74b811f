"""Load that lasts until the cluster has had given numbers of ready nodes, one after the other.

    python steady.py 1,4,2 [at-most-once]

Says on stderr which number it has seen, and at the end, on stdout, what has become of all tasks.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections import Counter, deque

import manyhands

SECONDS = 0.05
PENDING = 40
GIVE_UP = 150.0


def work(number: int) -> tuple[int, str]:
    """Take a moment; the number comes back, with the host that had it."""
    time.sleep(SECONDS)
    return number, socket.gethostname()


def main(phases: list[int], at_most_once: bool) -> None:
    """Keep the cluster busy through all phases, then wait for every answer."""
    answers: Counter[int] = Counter()
    hosts: Counter[str] = Counter()
    pending: deque[manyhands.Future[tuple[int, str]]] = deque()
    submitted, give_up, look = 0, time.monotonic() + GIVE_UP, 0.0
    with (
        manyhands.Client() as client,
        manyhands.Executor(at_most_once=at_most_once) as executor,
    ):
        while phases or pending:
            while phases and len(pending) < PENDING:
                pending.append(executor.submit(work, submitted))
                submitted += 1
            number, host = pending.popleft().result(timeout=60)
            answers[number] += 1
            hosts[host] += 1
            if phases and time.monotonic() >= look:
                look = time.monotonic() + 0.25
                ready = sum(node["state"] == "ready" for node in client.query("nodes"))
                if ready == phases[0]:
                    print(f"seen {phases.pop(0)}", file=sys.stderr, flush=True)
                elif time.monotonic() > give_up:
                    sys.exit(f"{ready} nodes are ready, and not {phases[0]}")
    lost = sum(number not in answers for number in range(submitted))
    twice = sum(count > 1 for count in answers.values())
    print(json.dumps({"tasks": submitted, "lost": lost, "twice": twice, "hosts": len(hosts)}))


if __name__ == "__main__":
    main([int(part) for part in sys.argv[1].split(",")], "at-most-once" in sys.argv[2:])
