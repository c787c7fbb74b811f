"""A profile as https://www.speedscope.app reads it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from manyhands_shared import __version__

if TYPE_CHECKING:
    from manyhands_shared.profiling.stacks import Frame


def document(title: str, counts: Counter[tuple[Frame, ...]]) -> dict[str, Any]:
    """Return the document for stacks and how often each was found."""
    places: dict[Frame, int] = {}
    samples = [[places.setdefault(frame, len(places)) for frame in frames] for frames in counts]
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": f"manyhands {__version__}",
        "name": title,
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": one.name, "file": one.file} for one in places]},
        "profiles": [
            {
                "type": "sampled",
                "name": title,
                "unit": "none",
                "startValue": 0,
                "endValue": counts.total(),
                "samples": samples,
                "weights": list(counts.values()),
            }
        ],
    }
