"""Wrong options and functions: one sentence, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.brokers.client_broker import FakeBroker
from manyhands import Client, Executor, Pool
from manyhands_shared.errors import ConfigError
from manyhands_shared.protocol.messages import Submit


@pytest.mark.parametrize(
    ("make", "options", "error", "text"),
    [
        (Pool, {"processes": "2"}, TypeError, "processes must be an integer, not '2'"),
        (Pool, {"retries": 1}, TypeError, "Pool takes no option 'retries'; Executor does"),
        (Pool, {"num_gpus": 1}, TypeError, "write Executor(resources={'gpu': …})"),
        (Pool, {"environments": {}}, TypeError, "'environments'; did you mean 'environment'?"),
        (Executor, {"retrys": 1}, TypeError, "unknown option 'retrys'; did you mean 'retries'?"),
        (Executor, {"max_workers": 1.5}, TypeError, "max_workers must be an integer, not 1.5"),
        (Executor, {"max_tasks_per_child": "1"}, TypeError, "must be an integer, not '1'"),
        (Executor, {"zzz": 1}, TypeError, "unknown option 'zzz'"),
        (Executor, {"memory": 4e9}, TypeError, "'memory'; write resources={'memory': …}"),
        (Executor, {"num_cpus": 2}, TypeError, "'num_cpus'; write resources={'cpus': …}"),
        (Executor, {"num_gpus": 1}, TypeError, "'num_gpus'; write resources={'gpu': …}"),
        (Executor, {"resources": ["gpu"]}, ConfigError, "as {'cpus': 2}, not ['gpu']"),
        (Executor, {"after": 3}, ConfigError, "after takes jobs and their ids, not 3"),
        (Executor, {"after": [3]}, ConfigError, "after takes jobs and their ids, not 3"),
        (Executor, {"initializer": print, "initargs": 3}, TypeError, "not iterable"),
        (Executor, {"address": 7}, ConfigError, "address takes a text, as tcp://host:7711, not 7"),
        (Client, {"address": 7}, ConfigError, "address takes a text"),
    ],
)
def test_a_wrong_option_is_said_in_a_sentence(
    broker: FakeBroker, make: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        make(**{"address": broker.address, **options})
    assert text in str(caught.value)
    assert not broker.received


@pytest.mark.parametrize("wrong", ["f", None, 7])
def test_what_cannot_be_called_is_not_sent(broker: FakeBroker, wrong: Any) -> None:
    with (
        Executor(address=broker.address) as executor,
        Pool(address=broker.address) as pool,
        Client(broker.address) as client,
    ):
        calls: list[Callable[[], Any]] = [
            lambda: executor.submit(wrong),
            lambda: executor.map(wrong, [1]),
            lambda: pool.apply(wrong),
            lambda: pool.map(wrong, [1]),
            lambda: client.submit_job(wrong, [(1,)]),
        ]
        for call in calls:
            with pytest.raises(TypeError, match=f"{wrong!r} cannot be called"):
                call()
        assert broker.count(Submit) == 0
