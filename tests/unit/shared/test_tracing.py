"""Tasks with a trace context, where there is nothing that could make spans of it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

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


def test_a_child_sends_its_spans_at_its_end_if_it_made_any(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    provider = SimpleNamespace(force_flush=flushed.append)
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
    monkeypatch.setattr(tracing, "running", None)
    tracing.flush()
    assert flushed == []
    monkeypatch.setattr(tracing, "running", lambda: None)
    tracing.flush()
    assert flushed == [tracing._FLUSH_MS]
