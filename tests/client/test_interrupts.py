"""Ctrl-C while a task is submitted: it comes a moment later, and nothing is lost."""

from __future__ import annotations

import os
import signal

import pytest

import manyhands
from manyhands.uninterrupted import Uninterrupted
from support import eventually

BOUND = 60.0


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_lone_task_is_sent_before_the_interrupt_comes() -> None:
    with manyhands.Executor(1) as executor:
        executor.submit(abs, -1).result(BOUND)
        loop = executor._connection.loop
        flushed = 0

        def flush() -> None:
            nonlocal flushed
            if loop.on_thread() and loop._thread.ident != loop.intake.owner:
                interrupt()
            type(loop)._flush(loop)
            flushed += 1

        loop._flush = flush  # type: ignore[method-assign]
        eventually(lambda: loop.intake.asleep and not loop._session.unended, what="it is at rest")
        with pytest.raises(KeyboardInterrupt):
            executor.submit(abs, -2)
        assert flushed
        del loop._flush  # type: ignore[misc]
        eventually(lambda: not loop._session.unended, what="the task is over")
        assert [executor.submit(abs, -n).result(BOUND) for n in range(5)] == list(range(5))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_happens_before_the_end_and_then_what_would_have() -> None:
    steps = []

    def interrupted() -> None:
        with Uninterrupted():
            interrupt()
            interrupt()
            steps.append("end")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert steps == ["end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_ones_own_is_called_once_and_stays() -> None:
    called = []

    def handler(*arguments: object) -> None:
        called.append(arguments)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with Uninterrupted():
            interrupt()
            assert not called
        assert len(called) == 1
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Uninterrupted():
            interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
