"""Puts a run into the documentation: its chart and its tables.

    python -m bench.reporting.publish out/bench.json

writes ``docs/images/bench.svg``, and the text between two marks of ``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.reporting import chart
from bench.reporting.report import markdown
from bench.reporting.results import Run

_IMAGE, _PAGE = Path("docs/images/bench.svg"), Path("docs/performance.md")
_BEGIN, _END = "<!-- bench: begin -->", "<!-- bench: end -->"


def main() -> int:
    """Write both; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.reporting.publish", description=__doc__)
    parser.add_argument("document", type=Path, nargs="?", default=Path("out/bench.json"))
    try:
        run = Run.load(parser.parse_args().document)
        _PAGE.write_text(inserted(_PAGE.read_text(), markdown(run)))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    draw(run, _IMAGE)
    return 0


def draw(run: Run, path: Path) -> None:
    """Write a run's chart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(chart.svg(run))


def inserted(page: str, text: str) -> str:
    """The page with `text` between its marks.

    Raises:
        ValueError: it has none.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{_PAGE} has no place for a run: {_BEGIN} and {_END}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


if __name__ == "__main__":
    sys.exit(main())
