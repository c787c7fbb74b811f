"""What it costs to hand in durable tasks, against attached ones.

    python -m bench.durable

Starts a broker with a journal and no node. Submits the same tasks in bulk both ways, in turn, until the
broker has the last of them. A durable task counts when the broker has flushed it to the disk. The
journal's disk decides much of it, so `--folder` says where it is.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import manyhands
from manyhands.cluster import LocalCluster

#: Bytes of one task's argument.
SIZES = (10, 280)
WAYS = ("one job", "futures")


def main() -> int:
    """Measure both ways in turn and print medians and their ratio; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.durable", description=__doc__)
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the journal is put")
    arguments = parser.parse_args()
    print("| submitted as | argument, bytes | attached tasks/s | durable tasks/s | ratio |")
    print("|---|---|---|---|---|")
    for way in WAYS:
        for size in SIZES:
            rates: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(arguments.repeats):
                for durable, found in rates.items():
                    found.append(rate(way, arguments.tasks, size, arguments.folder, durable))
            one, two = statistics.median(rates[False]), statistics.median(rates[True])
            print(f"| {way} | {size} | {one:,.0f} | {two:,.0f} | {two / one:.2f} |", flush=True)
    return 0


def rate(way: str, tasks: int, size: int, folder: Path | None, durable: bool) -> float:
    """Tasks a second, from the first call to when a fresh broker has them all."""
    values = [number.to_bytes(size, "little") for number in range(tasks)]
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        LocalCluster(nodes=0, broker={"journal": place}) as cluster,
        manyhands.Client(cluster.address) as client,
    ):
        submit = submit_job if way == "one job" else submit_futures
        with submit(client, values, durable=durable) as began:
            while client.query("stats")["queued"] < tasks:
                time.sleep(0.002)
            return tasks / (time.perf_counter() - began)


@contextlib.contextmanager
def submit_job(client: manyhands.Client, values: list[bytes], *, durable: bool) -> Iterator[float]:
    """Submit an array job; gives the time when that began."""
    began = time.perf_counter()
    client.submit_job(len, [(value,) for value in values], durable=durable)
    yield began


@contextlib.contextmanager
def submit_futures(
    client: manyhands.Client, values: list[bytes], *, durable: bool
) -> Iterator[float]:
    """Submit each task with a future of its own; gives the time when that began."""
    with manyhands.Executor(
        address=client.address, durable=durable, max_pending=2 * len(values)
    ) as executor:
        began = time.perf_counter()
        futures = [executor.submit(len, value) for value in values]
        yield began
        executor.shutdown(wait=False, cancel_futures=True)
        del futures


if __name__ == "__main__":
    sys.exit(main())
