"""The demo: real work on a broker and two nodes of this machine, in under a minute.

    make demo

- (a) parses the modules of Python's standard library serially, then in parallel, and compares.
- (b) computes a Mandelbrot image from float64 tiles.
- (c) kills a pool child with SIGKILL in the middle of that, and shows that nothing was lost.

Writes ``out/mandelbrot.png``. A machine that other programs keep busy gets a part of the work, so that
the demo ends in time. The demo says so.
"""

from __future__ import annotations

import ast
import os
import random
import signal
import struct
import sys
import sysconfig
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import manyhands

WIDTH, HEIGHT, TILES, TURNS = 3000, 2000, 40, 600
#: How long each part may take: a machine that others use as well gets less of the same work.
SERIAL_SECONDS, IMAGE_SECONDS = 9.0, 9.0
#: A share of the processors that, taken by others, makes a comparison of times worthless.
BUSY = 0.1
OUT = Path("out/mandelbrot.png")

console = Console()


class Parsed(NamedTuple):
    """What one file holds."""

    path: str
    lines: int
    functions: list[tuple[int, str]]  # (lines, name)


def parse_file(path: str) -> Parsed:
    """Count a source file's lines and measure its functions. Files meant to be broken count as empty."""
    source = Path(path).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return Parsed(path, 0, [])
    functions = [
        ((node.end_lineno or node.lineno) - node.lineno + 1, node.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return Parsed(path, source.count(b"\n"), functions)


def mandelbrot_tile(
    first_row: int, rows: int, width: int, height: int
) -> tuple[int, int, np.ndarray[Any, np.dtype[np.float64]]]:
    """Rows `first_row` to `first_row + rows` of the image: (pid, first row, float64 tile)."""
    y = np.linspace(-1.2, 1.2, height)[first_row : first_row + rows, None]
    x = np.linspace(-2.4, 1.2, width)[None, :]
    c = (x + 1j * y).ravel()
    # The main cardioid and the largest bulb never escape: a third of the image for nothing.
    q = (c.real - 0.25) ** 2 + c.imag**2
    inside = (q * (q + c.real - 0.25) <= 0.25 * c.imag**2) | (
        (c.real + 1) ** 2 + c.imag**2 <= 1 / 16
    )
    speed = np.zeros(c.shape)
    alive = np.flatnonzero(~inside)
    z = c[alive]
    for turn in range(TURNS):
        z = z * z + c[alive]
        size = z.real**2 + z.imag**2
        gone = size > 256.0
        speed[alive[gone]] = turn + 1 - np.log2(np.log2(size[gone]) / 2)
        alive, z = alive[~gone], z[~gone]
    return os.getpid(), first_row, speed.reshape(-1, width)


def main() -> int:
    """Run it all; returns an exit code."""
    started = time.monotonic()
    slots = max(1, (os.cpu_count() or 2) // 2)
    with (
        manyhands.LocalCluster(nodes=2, slots=slots) as cluster,
        manyhands.Client(cluster.address, name="demo") as client,
    ):
        client.wait_for_nodes(2)
        nodes = client.query("nodes")
        names = ", ".join(f"{node['name']} ({node['slots']} slots)" for node in nodes)
        console.print(f"broker at {cluster.address}, nodes: {names}\n")
        same = standard_library(client)
        whole = mandelbrot(client, 2 * slots)
    console.print(f"\nall of it took {time.monotonic() - started:.0f} s")
    return 0 if same and whole else 1


def standard_library(client: manyhands.Client) -> bool:
    """(a) Parse the standard library serially and in parallel; true if both agree.

    On a busy machine it is a part of the library: what is parsed serially in `SERIAL_SECONDS`.
    """
    root = Path(sysconfig.get_path("stdlib"))
    skip = {"site-packages", "dist-packages"}
    paths = sorted(str(p) for p in root.rglob("*.py") if not skip & set(p.parts))
    random.Random(0).shuffle(paths)  # any part of them is like the whole
    console.rule("(a) the standard library, one task a file")
    began = time.perf_counter()
    serial = []
    with bar("serial", len(paths)) as advance:
        for path in paths:
            serial.append(parse_file(path))
            advance()
            if time.perf_counter() - began > SERIAL_SECONDS:
                break
    serial_time = time.perf_counter() - began
    parallel: list[Parsed | None] = [None] * len(serial)
    load = Load()
    began = time.perf_counter()
    with bar("parallel", len(serial)) as advance:
        for index, value in client.submit_job(
            parse_file, [(parsed.path,) for parsed in serial], name="stdlib"
        ):
            parallel[index] = value
            advance()
    parallel_time = time.perf_counter() - began
    others = load.of_others()
    table = Table("lines", "function", "file", title="the ten longest functions")
    functions = [(length, name, p.path) for p in serial for length, name in p.functions]
    for length, name, path in sorted(functions, reverse=True)[:10]:
        table.add_row(str(length), name, str(Path(path).relative_to(root)))
    console.print(table)
    lines = sum(p.lines for p in serial)
    same = [tuple(p) if p else None for p in parallel] == [tuple(p) for p in serial]
    if len(serial) < len(paths):
        console.print(
            f"this machine is slow or busy: {len(serial):,} of {len(paths):,} files were parsed"
        )
    console.print(
        f"{len(serial):,} files, {lines:,} lines, {len(functions):,} functions: serially "
        f"{serial_time:.1f} s, in parallel {parallel_time:.1f} s "
        f"({serial_time / parallel_time:.1f} times as fast); results "
        + ("are the same" if same else "[bold red]DIFFER[/]")
    )
    if others > BUSY:
        console.print(
            f"other programs took {others:.0%} of the processors meanwhile: "
            "how much faster it was says little"
        )
    return same


class Load:
    """How much of this machine's processors other programs take, from when it is made."""

    def __init__(self) -> None:
        self._before = self._now()

    def of_others(self) -> float:
        """Return their share since then, from 0 to 1; the rest was ours, or idle."""
        busy, ours, total = (
            now - then for now, then in zip(self._now(), self._before, strict=True)
        )
        return min(1.0, max(0.0, (busy - ours) / max(total, 0.01)))

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds of all processors that were busy, that this program's took, and in all."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        ours = 0.0
        this = psutil.Process()
        for process in [this, *this.children(recursive=True)]:
            with suppress(psutil.Error):
                spent = process.cpu_times()
                ours += spent.user + spent.system
        # Guests' seconds are in `user` as well.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return total - idle, ours, total


def mandelbrot(client: manyhands.Client, slots: int) -> bool:
    """(b) and (c) An image from tiles, with a pool child killed on the way; true if it is whole."""
    height = affordable_height(slots)
    width, tile_rows = height * WIDTH // HEIGHT, height // TILES
    console.rule(f"(b) a Mandelbrot image, {width} x {height}, in float64 tiles")
    rows = range(0, height, tile_rows)
    image = np.full((height, width), np.nan)
    seen: set[int] = set()
    victim = None
    received = 0
    with bar("tiles", len(rows)) as advance:
        for _, value in client.submit_job(
            mandelbrot_tile, [(row, tile_rows, width, height) for row in rows], name="mandelbrot"
        ):
            if isinstance(value, BaseException):
                raise value
            pid, first_row, tile = value
            image[first_row : first_row + tile_rows] = tile
            received += 1
            seen.add(pid)
            advance()
            if victim is None and received == len(rows) // 3:
                victim = pid
                os.kill(victim, signal.SIGKILL)  # it is computing its next tile at this moment
    write_png(OUT, image)
    console.print(
        f"{received} tiles of {tile_rows * width * 8 / 1e6:.1f} MB each, written to {OUT}"
    )
    console.rule("(c) one pool child was killed with SIGKILL in the middle of it")
    told = [event["text"] for event in client.query("events") if str(victim) in event["text"]]
    for text in told:
        console.print(f"the broker was told: {text}")
    whole = received == len(rows) and not np.isnan(image).any()
    console.print(
        f"victim: process {victim}; {received} of {len(rows)} tiles arrived, each once: "
        + ("nothing was lost" if whole and told else "[bold red]SOMETHING WAS LOST[/]")
    )
    return whole and bool(told)


def affordable_height(slots: int) -> int:
    """Rows of the largest image, up to `HEIGHT`, that `slots` processes make in `IMAGE_SECONDS`."""
    small = HEIGHT // 10
    began = time.perf_counter()
    mandelbrot_tile(0, small, small * WIDTH // HEIGHT, small)
    whole = (time.perf_counter() - began) * 100 / slots
    height = HEIGHT * min(1.0, (IMAGE_SECONDS / whole) ** 0.5)
    return max(1, int(height) // TILES) * TILES


def write_png(path: Path, speed: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    """Write escape speeds as an RGB image (PNG, ISO/IEC 15948; colours are cosines)."""
    phase = np.sqrt(np.maximum(speed, 0.0))[..., None] * 0.9 + np.array([3.0, 3.7, 4.4])
    pixels = np.where(speed[..., None] != 0, 127.5 - 127.5 * np.cos(phase), 0).astype(np.uint8)
    height, width, _ = pixels.shape
    raw = np.zeros((height, 1 + width * 3), np.uint8)
    raw[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(raw.tobytes(), 3))
        + chunk(b"IEND", b"")
    )


@contextmanager
def bar(title: str, total: int) -> Iterator[Any]:
    """A progress bar on stderr; yields what advances it by one."""
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(50),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)


if __name__ == "__main__":
    sys.exit(main())
