"""Programs of 50 ms on one host, then on two: hosts in network namespaces, which takes root.

    python -m bench.two_hosts [--tasks 1600] [--slots 8]

The programs sleep, so that two hosts of one machine do not share its cores. Each figure is of a cluster
that has run programs before.
"""

from __future__ import annotations

import argparse
import time

from manyhands import Client
from manyhands.loadtest import target
from manyhands.testbed import unavailable
from manyhands_shared.programs import task
from manyhands_shared.programs.program import Program

_SECONDS = 120.0


def main() -> None:
    """Measure, and print both rates and their ratio."""
    parser = argparse.ArgumentParser(description="Compare one host with two.")
    parser.add_argument("--tasks", type=int, default=1_600)
    parser.add_argument("--slots", type=int, default=8, help="of each host")
    options = parser.parse_args()
    if why := unavailable():
        raise SystemExit(why)
    one, two = (rate(hosts, options.tasks, options.slots) for hosts in (1, 2))
    print(f"\n{options.tasks:,} programs of 50 ms, {options.slots} slots a host\n")
    print("| hosts | a second | of one host |\n|---|---|---|")
    for hosts, figure in ((1, one), (2, two)):
        print(f"| {hosts} | {figure:,.0f} | {figure / one:.2f} x |")


def rate(hosts: int, tasks: int, slots: int) -> float:
    """Return the programs a second of these hosts; the broker and the client are on others."""
    with target.hosts(hosts, slots) as there, there.client() as client:
        _run(client, 4 * slots * hosts)
        return tasks / _run(client, tasks)


def _run(client: Client, tasks: int) -> float:
    """Run this number of programs to their end; the seconds that it took."""
    text = Program(("sleep", "0.05")).encode()
    began = time.monotonic()
    job = client.submit_job(
        task.run, [(text, number, str(number), None) for number in range(1, tasks + 1)]
    )
    if not job.wait(_SECONDS):
        raise SystemExit(f"{tasks} programs have not ended within {_SECONDS:.0f} s")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
