"""Exceptions travel whatever they are, and what cannot travel has a faithful stand-in."""

from __future__ import annotations

import pickle
import signal
import traceback
from typing import Any, NoReturn

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.strategies import SCALARS
from manyhands_shared.errors import (
    RemoteError,
    RemoteTraceback,
    ResultError,
    TaskCrashed,
    TaskError,
    TaskLost,
    TaskMemoryExceeded,
    TaskTimeout,
)
from manyhands_shared.protocol import exceptions
from manyhands_shared.protocol.failure import MEMORY_EXCEEDED, Failure
from manyhands_shared.protocol.messages import Status


class Needy(Exception):
    """Pickles, but does not load: the constructor wants what `args` does not hold."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class NeedyValue(ValueError):
    def __init__(self, *, key: str) -> None:
        super().__init__(f"no {key}")


class Unpicklable(KeyError):
    def __reduce__(self) -> NoReturn:
        raise RuntimeError("not me")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Exiting(Exception):
    """Ends the process that loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exit_now, ()


class Disguised(Exception):
    """Loads as something that is no exception at all."""

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, ()


class EvilArgs(Exception):
    @property
    def args(self) -> tuple[Any, ...]:  # type: ignore[override]
        raise RuntimeError("no args")


def exit_now() -> NoReturn:
    raise SystemExit(9)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - it was raised to be returned
        return caught


def travelled(error: BaseException, status: int = Status.RAISED) -> BaseException:
    return exceptions.to_exception(status, exceptions.of_exception(raised(error)).encode())


def test_an_exception_comes_back_with_the_remote_traceback_as_cause() -> None:
    error = travelled(ValueError("bad", 3))
    assert type(error) is ValueError
    assert error.args == ("bad", 3)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "ValueError: ('bad', 3)" in str(error.__cause__)
    assert "test_failure.py" in str(error.__cause__)
    assert "RemoteTraceback" in "".join(traceback.format_exception(error))


def test_our_own_frames_can_be_left_out() -> None:
    def outer() -> None:
        inner()

    def inner() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError) as info:
        outer()
    text = exceptions.of_exception(info.value, skip_frames=2).traceback
    assert "in inner" in text
    assert "in outer" not in text
    assert "KeyError" in exceptions.of_exception(info.value, skip_frames=99).traceback


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (Needy(1, 2), Exception),
        (NeedyValue(key="x"), ValueError),
        (Unpicklable("key"), KeyError),
        (Exiting("x"), Exception),
        (Disguised("x"), Exception),
        (SystemExit(3), BaseException),
        (KeyboardInterrupt(), BaseException),
        (GeneratorExit(), BaseException),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "odd"), UnicodeDecodeError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_evil_exceptions_arrive_as_an_exception_of_the_right_kind(
    error: BaseException, also: type[BaseException]
) -> None:
    back = travelled(error)
    assert isinstance(back, Exception)
    assert isinstance(back, also)
    if not isinstance(error, UnicodeDecodeError):
        assert isinstance(back, RemoteError)
        assert back.type_name.endswith(type(error).__name__)
        assert type(error).__name__ in str(back)


def test_an_exception_without_a_text_survives() -> None:
    told = exceptions.of_exception(raised(Mute()))
    assert told.message == "<str raised RuntimeError>"
    assert type(travelled(Mute())) is Mute


def test_an_exception_whose_args_raise_survives() -> None:
    assert exceptions.of_exception(raised(EvilArgs())).args == ()


def test_the_stand_in_shows_the_arguments() -> None:
    back = travelled(Unpicklable("key", 5))
    assert isinstance(back, RemoteError)
    assert back.remote_args == ("'key'", "5")


def test_a_local_class_arrives_whole_in_the_same_process() -> None:
    class Local(Exception):
        pass

    assert str(travelled(Local("here"))) == "here"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Status.CRASHED, TaskCrashed),
        (Status.TIMED_OUT, TaskTimeout),
        (Status.LOST, TaskLost),
        (Status.UNSENDABLE, ResultError),
    ],
)
def test_each_status_has_its_own_error(status: Status, kind: type[TaskError]) -> None:
    payload = Failure("x", "what happened", story=("attempt 1: died",)).encode()
    error = exceptions.to_exception(status, payload)
    assert type(error) is kind
    assert str(error) == "what happened"
    if isinstance(error, TaskCrashed):
        assert error.story == ("attempt 1: died",)
        assert pickle.loads(pickle.dumps(error)).story == error.story
    if status is Status.TIMED_OUT:
        assert isinstance(error, TimeoutError)


def test_too_much_memory_is_a_memory_error() -> None:
    payload = Failure(MEMORY_EXCEEDED, "had 2 GB", bases=("MemoryError",)).encode()
    error = exceptions.to_exception(Status.RAISED, payload)
    assert type(error) is TaskMemoryExceeded
    assert isinstance(error, MemoryError)
    assert str(pickle.loads(pickle.dumps(error))) == "had 2 GB"


def test_texts_are_cut() -> None:
    told = exceptions.of_exception(raised(ValueError("x" * exceptions.MAX_PICKLE)))
    assert len(told.message) < exceptions.MAX_TEXT + 100
    assert len(told.encode()) < 5 * exceptions.MAX_TEXT
    assert told.pickle is None


@pytest.mark.parametrize("size", [10, 10_000, 1_000_000])
def test_an_exception_takes_its_arrays_along(size: int) -> None:
    error = travelled(ValueError("bad", np.ones(size)))
    assert type(error) is ValueError
    assert error.args[1].sum() == size
    error.args[1][:] = 2


def test_many_arguments_are_cut() -> None:
    assert len(exceptions.of_exception(ValueError(*range(1_000))).args) <= 16


def test_lone_surrogates_do_not_stop_a_failure() -> None:
    assert isinstance(travelled(ValueError("\ud800")), ValueError)
    assert isinstance(travelled(NeedyValue(key="\ud800")), ValueError)


def test_a_round_trip_keeps_every_field() -> None:
    told = Failure("m.T", "msg", ("1",), ("ValueError",), "trace", b"pickle", ("one", "two"))
    assert Failure.decode(told.encode()) == told
    assert Failure.decode((memoryview(told.encode()),)) == told


_GOOD = msgpack.unpackb(Failure("t", "m").encode())


@given(st.binary() | st.lists(st.binary(), min_size=1).map(tuple))
def test_garbage_becomes_a_failure_that_says_so(payload: Any) -> None:
    assert isinstance(exceptions.to_exception(Status.RAISED, payload), RemoteError)


@given(st.sampled_from(sorted(_GOOD)), SCALARS | st.lists(SCALARS))
def test_wrong_fields_never_raise(key: str, value: Any) -> None:
    payload = msgpack.packb({**_GOOD, key: value})
    for status in list(Status)[1:]:
        assert isinstance(exceptions.to_exception(status, payload), Exception)


def test_an_empty_body_is_a_failure_too() -> None:
    assert isinstance(exceptions.to_exception(Status.RAISED, ()), RemoteError)


@pytest.mark.parametrize("base", ["SystemExit", "print", "__import__", "object", "", "NoSuchThing"])
def test_foreign_bases_are_not_trusted(base: str) -> None:
    error = exceptions.to_exception(Status.RAISED, Failure("x.Y", "m", bases=(base,)).encode())
    assert type(error) is RemoteError


def test_a_pickle_of_no_exception_is_not_raised() -> None:
    told = Failure("x.Y", "m", pickle=pickle.dumps({"not": "an exception"}))
    assert type(exceptions.to_exception(Status.RAISED, told.encode())) is RemoteError
    interrupt = Failure("x.Y", "m", pickle=pickle.dumps(KeyboardInterrupt()))
    assert type(exceptions.to_exception(Status.RAISED, interrupt.encode())) is RemoteError


def test_what_a_signal_handler_raises_is_no_unreadable_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stop(Exception):
        pass

    def stop(*_: object) -> NoReturn:
        raise Stop

    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, stop)
    try:
        monkeypatch.setattr(msgpack, "unpackb", interrupted)
        with pytest.raises(Stop):
            Failure.decode(b"")
    finally:
        signal.signal(signal.SIGUSR2, before)
