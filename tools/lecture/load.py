"""Draw the load of the processors while the notes' sequential and parallel program runs.

    python -m tools.lecture.load docs/images/lecture-load.svg

It wants a machine on which little else runs.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import psutil
from tools.lecture.programs import FOLDER

PROGRAM = FOLDER / "05_sequential_and_parallel.py"
_EVERY_SECONDS = 0.1
_WIDTH, _ROW, _GAP, _LEFT, _TOP, _FOOT = 720, 90, 22, 64, 58, 34
_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}"
    ".page{fill:#fff;stroke:#d1d9e0}.quiet{fill:#656d76}.frame{fill:none;stroke:#d1d9e0}"
    ".load{fill:#57708c;fill-opacity:.35;stroke:#57708c}.mark{stroke:#d9541e;stroke-dasharray:4 3}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117;stroke:#3d444d}"
    ".quiet{fill:#9198a1}.frame{stroke:#3d444d}.load{fill:#8ba6c4;stroke:#8ba6c4}}"
)


@dataclass
class Load:
    """What was measured while the program ran."""

    #: Seconds since its start.
    times: list[float] = field(default_factory=list)
    #: At each of them: how busy each processor was since the one before, from 0 to 1.
    shares: list[list[float]] = field(default_factory=list)
    #: When it printed each of its lines, and the line.
    lines: list[tuple[float, str]] = field(default_factory=list)


def measure() -> Load:
    """Run the program; return the load meanwhile."""
    load = Load()
    psutil.cpu_percent(percpu=True)
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-u", str(PROGRAM)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                load.lines.append((time.monotonic() - began, line.strip()))

        reader = Thread(target=read)
        reader.start()
        while process.poll() is None:
            shares = psutil.cpu_percent(_EVERY_SECONDS, percpu=True)
            load.times.append(time.monotonic() - began)
            load.shares.append([share / 100 for share in shares])
        reader.join()
    if process.returncode:
        raise SystemExit(f"{PROGRAM.name} ended with {process.returncode}")
    return load


def svg(load: Load) -> str:
    """Return the drawing: a row for each processor, a line where the program has printed."""
    processors, end = len(load.shares[0]), load.times[-1]
    height = _TOP + processors * (_ROW + _GAP) + _FOOT
    plot = _WIDTH - _LEFT - 24

    def x(at: float) -> float:
        return round(_LEFT + plot * at / end, 1)

    parts = [
        f'<text x="{_LEFT}" y="24">Load of the processors: first one process, then a pool</text>'
    ]
    for number in range(processors):
        top = _TOP + number * (_ROW + _GAP)
        points = [f"{x(0)},{top + _ROW}"]
        points += [
            f"{x(at)},{top + _ROW * (1 - each[number]):.1f}"
            for at, each in zip(load.times, load.shares, strict=True)
        ]
        points.append(f"{x(end)},{top + _ROW}")
        parts += [
            f'<rect class="frame" x="{_LEFT}" y="{top}" width="{plot}" height="{_ROW}"/>',
            f'<polygon class="load" points="{" ".join(points)}"/>',
            f'<text x="12" y="{top + _ROW / 2 + 4}">CPU {number}</text>',
        ]
    bottom = height - _FOOT - _GAP
    for at, line in load.lines:
        name, _, seconds = line.partition(":")
        text = f"{_NAMES.get(name, name)}: {seconds.strip()}"
        place = f'x="{x(at) - 4}" y="{_TOP - 12}" text-anchor="end"'
        parts += [
            f'<line class="mark" x1="{x(at)}" x2="{x(at)}" y1="{_TOP - 8}" y2="{bottom}"/>',
            f'<text class="quiet" {place}>{text}</text>',
        ]
    parts += [
        f'<text class="quiet" x="{x(second)}" y="{bottom + 18}" text-anchor="middle">{second} s</text>'
        for second in range(int(end) + 1)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'role="img" aria-label="Load of each processor: one is busy, then all are">\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="page" x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


#: What the program prints, in English.
_NAMES = {"Последовательное выполнение": "sequential", "Параллельное выполнение": "parallel"}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tools.lecture.load FILE.svg")
    Path(sys.argv[1]).write_text(svg(measure()), encoding="utf-8")
