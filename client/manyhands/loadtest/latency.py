"""Latencies as HDR histograms: three digits at any size, and histograms of many clients add up."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram

#: Microseconds: what histograms count. One hour is the longest.
_LOWEST, _HIGHEST, _DIGITS = 1, 3_600_000_000, 3
_FLUSH = 65_536
#: What reports show, in percent. The curve has more of them.
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_CURVE = (
    *(0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 96.0),
    *(97.0, 98.0, 98.5, 99.0, 99.25, 99.5, 99.75, 99.9, 99.95, 99.99, 99.995, 99.999),
)


class Recorder:
    """Takes latencies in seconds, at next to no price until there are many."""

    def __init__(self) -> None:
        self._fresh = array("d")
        self._histogram = _empty()

    def extend(self, seconds: Iterable[float]) -> None:
        """Some more."""
        self._fresh.extend(seconds)
        if len(self._fresh) >= _FLUSH:
            self._flush()

    def encode(self) -> str:
        """All there are, as text for `merge`."""
        self._flush()
        encoded: bytes = self._histogram.encode()
        return encoded.decode("ascii")

    def _flush(self) -> None:
        micros = np.clip(np.frombuffer(self._fresh) * 1e6, _LOWEST, _HIGHEST)
        # Four digits are more than the histogram keeps, and leave few distinct values to record.
        unit = 10.0 ** np.maximum(np.floor(np.log10(micros)) - 3, 0)
        values, counts = np.unique(
            (np.round(micros / unit) * unit).astype(np.int64), return_counts=True
        )
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self._histogram.record_value(min(value, _HIGHEST), count)
        self._fresh = array("d")


def merge(encoded: Iterable[str]) -> str:
    """The histogram of all together."""
    whole = _empty()
    for text in encoded:
        whole.decode_and_add(text.encode("ascii"))
    merged: bytes = whole.encode()
    return merged.decode("ascii")


def summary(encoded: str) -> dict[str, Any]:
    """A histogram in seconds: count, mean, max, percentiles, and a curve of ``[percent, seconds]``."""
    histogram = HdrHistogram.decode(encoded.encode("ascii"))
    count = int(histogram.get_total_count())
    if not count:
        return {"count": 0, "mean": None, "max": None, "percentiles": {}, "curve": []}
    # Beyond one in `count` the curve would only repeat the largest.
    shown = [percent for percent in _CURVE if (100 - percent) * count >= 100 or percent <= 50]
    return {
        "count": count,
        "mean": histogram.get_mean_value() / 1e6,
        "max": histogram.get_max_value() / 1e6,
        "percentiles": {f"{percent:g}": _at(histogram, percent) for percent in PERCENTILES},
        "curve": [[percent, _at(histogram, percent)] for percent in shown],
    }


def _at(histogram: Any, percent: float) -> float:
    return float(histogram.get_value_at_percentile(percent)) / 1e6


def _empty() -> Any:
    return HdrHistogram(_LOWEST, _HIGHEST, _DIGITS)
