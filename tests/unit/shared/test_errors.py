"""Errors keep what they carry through a pickle, and each has the exit code it should have."""

from __future__ import annotations

import pickle

import pytest

from manyhands_shared import errors
from manyhands_shared.errors import ExitCode
from manyhands_shared.standard_errors import remote_traceback


def test_errors_with_more_than_a_text_pickle_whole() -> None:
    refused = pickle.loads(pickle.dumps(errors.Refused("full", "no room")))
    assert (refused.code, refused.reason, str(refused)) == ("full", "no room", "no room")
    crashed = pickle.loads(pickle.dumps(errors.TaskCrashed("died", ("one", "two"))))
    assert (crashed.story, str(crashed)) == (("one", "two"), "died")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, 2),
        (errors.BrokerUnreachable, 3),
        (errors.NotAuthorised, 4),
        (errors.TaskCrashed, 1),
        (errors.SubmitError, 1),
    ],
)
def test_exit_codes(kind: type[errors.ManyhandsError], code: int) -> None:
    assert kind.exit_code == code


def test_the_numbers_of_exit_codes_are_fixed() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "JOB_FAILED": 1,
        "USAGE": 2,
        "UNREACHABLE": 3,
        "NOT_AUTHORISED": 4,
        "TIMED_OUT": 124,
        "INTERRUPTED": 130,
    }


def test_a_remote_traceback_prints_as_it_was() -> None:
    assert str(remote_traceback("Traceback…\n")) == '\n"""\nTraceback…\n"""'
