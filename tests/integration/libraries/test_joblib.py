"""joblib's calls on a real cluster, by the backend `manyhands`."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from manyhands import LocalCluster

joblib: Any = pytest.importorskip("joblib", reason="joblib is not installed")


@pytest.fixture(scope="module", autouse=True)
def backend() -> Iterator[None]:
    ours = importlib.import_module("manyhands.joblib")
    with LocalCluster(nodes=1, slots=2) as cluster:
        with joblib.parallel_config(backend="manyhands", n_jobs=2, address=cluster.address):
            yield
        ours.close()


def square(number: int) -> int:
    return number * number


def nested(count: int) -> int:
    return sum(joblib.Parallel(n_jobs=2)(joblib.delayed(square)(n) for n in range(count)))


def third_fails(number: int) -> None:
    if number == 3:
        raise ValueError("the third")
    if number > 3:
        threading.Event().wait()


def test_batches_and_nested_calls() -> None:
    assert joblib.Parallel()(joblib.delayed(square)(n) for n in range(500)) == [
        n * n for n in range(500)
    ]
    assert joblib.Parallel()(joblib.delayed(nested)(n) for n in range(4)) == [0, 0, 1, 5]


def mark(word: str) -> None:
    os.environ["MARK"] = word


def marked(_: int) -> str | None:
    return os.environ.get("MARK")


def test_initializers_run_in_each_process_before_the_tasks_of_their_call() -> None:
    calls = [joblib.delayed(marked)(n) for n in range(20)]
    for word in ("of a call", "of another"):
        assert joblib.Parallel(initializer=mark, initargs=(word,))(calls) == [word] * 20


@pytest.mark.parametrize("kind", ["generator", "generator_unordered"])
def test_generators(kind: str) -> None:
    results = joblib.Parallel(return_as=kind)(joblib.delayed(square)(n) for n in range(10))
    assert sorted(results) == [n * n for n in range(10)]


def test_an_error_stops_the_others() -> None:
    with pytest.raises(ValueError, match="the third"):
        joblib.Parallel(batch_size=1)(joblib.delayed(third_fails)(n) for n in range(20))
    # Its tasks had both slots for ever.
    assert joblib.Parallel()(joblib.delayed(square)(n) for n in range(3)) == [0, 1, 4]


def test_large_arrays() -> None:
    table = np.arange(500_000.0)
    results = joblib.Parallel()(joblib.delayed(np.take)(table, n) for n in range(20))
    assert results == list(range(20))


def test_scikit_learn_gives_the_same() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    datasets = importlib.import_module("sklearn.datasets")
    selection = importlib.import_module("sklearn.model_selection")
    trees = importlib.import_module("sklearn.ensemble")
    machines = importlib.import_module("sklearn.svm")
    table, labels = datasets.make_classification(100, 8, random_state=0)

    def scores() -> list[Any]:
        search = selection.GridSearchCV(machines.SVC(), {"C": [0.1, 1.0]}, cv=3).fit(table, labels)
        forest = trees.RandomForestClassifier(10, random_state=0, n_jobs=2).fit(table, labels)
        return [
            *selection.cross_val_score(machines.SVC(), table, labels, cv=3),
            *search.cv_results_["mean_test_score"],
            *forest.predict_proba(table)[:, 0],
        ]

    ours = scores()
    with joblib.parallel_config(backend="sequential"):
        assert ours == scores()


def test_few_executors_stay_whatever_number_of_jobs_calls_ask_for() -> None:
    ours = importlib.import_module("manyhands.joblib")
    with joblib.Parallel(n_jobs=2) as parallel:
        assert parallel(joblib.delayed(square)(n) for n in range(3)) == [0, 1, 4]
        for jobs in range(3, 9):
            calls = (joblib.delayed(square)(n) for n in range(3))
            assert joblib.Parallel(n_jobs=jobs)(calls) == [0, 1, 4]
        assert len(ours._executors) <= ours._IDLE + 1
        # The one in use has not been ended meanwhile.
        assert parallel(joblib.delayed(square)(n) for n in range(3)) == [0, 1, 4]
    assert len(ours._executors) <= ours._IDLE
    assert not ours._users
