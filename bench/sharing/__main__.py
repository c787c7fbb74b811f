"""What an operation on a shared object costs: ours over two hosts, beside what else there is.

`python -m bench.sharing` measures in turn and several times. It takes `manyhands.multiprocessing`
between two hosts, which are two nodes of one machine that take each other for remote. Beside it stand
`multiprocessing` on one host, `multiprocessing.Manager`, and Redis where its server is installed. What
is of one host (pipes, NumPy) is so for ours, too. The bare round trip takes the same sockets: a Unix
socket to a relay, ZeroMQ to a server, and back. The benchmark prints medians and ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tools.two_hosts import two_hosts

from bench.sharing import peers
from bench.sharing.measures import MEASURES
from bench.sharing.systems import SYSTEMS

#: Seconds that one measure of one system may take.
_PATIENCE = 120.0
#: All that is compared; the last is of `program` alone.
_SYSTEMS = [*SYSTEMS, "its fork server"]
#: What each unit is of a second, or of one a second.
_SCALES = {"µs": 1e6, "ms": 1e3, "1/s": 1.0}
#: What stands before the figure, behind all that the processes print.
_FIGURE = "figure:"


def measure(name: str, system: str, count: int, address: str) -> float | None:
    """Measure one thing of one system, in a process of its own; `None` if it cannot be."""
    run = MEASURES[name].run
    if isinstance(run, str):
        command = [str(Path(__file__).with_name("program.py")), run, system]
    else:
        command = ["-m", "bench.sharing", "--one", name, system, "--count", str(count)]
    ended = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "MANYHANDS_BROKER": address},
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if ended.returncode:
        print(f"{system}, {name}: {ended.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return float(ended.stdout.rpartition(_FIGURE)[2])


def table(rows: dict[str, dict[str, list[float]]], systems: list[str]) -> str:
    """Return medians, and in brackets how ours compares: its cost or rate over the other's."""
    lines = [f"| | {' | '.join(systems)} |", f"|---|{'---|' * len(systems)}"]
    for name, found in rows.items():
        unit, cells = MEASURES[name].unit, list[str]()
        ours = statistics.median(found["manyhands"]) if found.get("manyhands") else None
        for system in systems:
            if not found.get(system):
                cells.append("")
                continue
            value = statistics.median(found[system])
            scale = _SCALES[unit]
            shown = f"{value * scale:,.1f}" if scale > 1 else f"{value:,.0f}"
            ratio = f" ({ours / value:.2f} x)" if ours and system != "manyhands" else ""
            cells.append(f"{shown} {unit}{ratio}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.sharing", description=__doc__)
    parser.add_argument("--count", type=int, default=2_000, help="operations of each measure")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measures", nargs="*", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--systems", nargs="*", choices=_SYSTEMS, default=_SYSTEMS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, system = options.one
        run = MEASURES[name].run
        assert not isinstance(run, str)
        with ExitStack() as stack:
            print(_FIGURE, run(SYSTEMS[system](stack), options.count))
        return
    systems = [one for one in options.systems if one != "Redis" or peers.has_redis()]
    rows: dict[str, dict[str, list[float]]] = {name: {} for name in options.measures}
    with two_hosts(slots=1) as address:
        for _ in range(options.repeats):
            for name in options.measures:
                for system in systems:
                    if system != "manyhands" and system not in MEASURES[name].peers:
                        continue
                    value = measure(name, system, options.count, address)
                    if value is not None:
                        rows[name].setdefault(system, []).append(value)
    print(table(rows, systems))


if __name__ == "__main__":
    main()
