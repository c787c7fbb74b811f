"""Spans of tasks whose child was killed, where the system gives no thread to send them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.threads import no_thread_left
from manyhands_shared.tracing import Noted
from manyhands_worker.ipc import control_block
from manyhands_worker.pool.lost_spans import LostSpans


def test_without_a_thread_a_node_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    words = control_block.words(control_block.new_block())
    words[control_block.CLAIM] = 1
    control_block.note(words, Noted(1, 2, 3, 4, 5, 6))
    child: Any = SimpleNamespace(
        words=words, task=(("job", 1), 0), slot=0, asked=False, expired=(0, 0.0), claim=1
    )
    spans = LostSpans("node")
    with no_thread_left():
        spans.died(child, "it died")
        spans.died(child, "it died")
    spans.close()
    assert spans._thread is None
