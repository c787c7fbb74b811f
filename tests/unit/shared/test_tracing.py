"""Tasks with a trace context, where there is nothing that could make spans of it."""

from __future__ import annotations

import sys

import pytest

from manyhands_shared import tracing
from manyhands_shared.tracing import Traced

CONTEXT = ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "", 1, "abs")


def test_a_node_without_the_extra_runs_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert Traced(int)(CONTEXT, "ff", base=16) == 255
    with pytest.raises(ValueError, match="invalid literal"):
        Traced(int)(CONTEXT, "x")


def test_a_child_that_made_no_span_has_none_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "running", None)
    tracing.flush()
