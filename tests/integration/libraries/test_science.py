"""Programs of scipy, emcee and dask give over a cluster what they give without one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from manyhands import Executor, LocalCluster, Pool


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with LocalCluster(nodes=1, slots=2) as cluster:
        yield cluster.address


def library(name: str) -> Any:
    """Return a module of a package that may be missing."""
    package = name.partition(".")[0]
    pytest.importorskip(package, reason=f"{package} is not installed")
    return importlib.import_module(name)


def hills(place: Any) -> float:
    """Return Rosenbrock's function, least at ones."""
    return float(sum(100.0 * (place[1:] - place[:-1] ** 2.0) ** 2.0 + (1 - place[:-1]) ** 2.0))


def chance(place: Any) -> float:
    """Return the logarithm of a normal distribution's density."""
    return -0.5 * float(np.sum(place**2))


def test_scipy_minimizes_over_the_map_of_a_pool(address: str) -> None:
    optimize = library("scipy.optimize")
    options = {"seed": 1, "maxiter": 10, "updating": "deferred", "polish": False, "popsize": 5}
    alone = optimize.differential_evolution(hills, [(0, 2)] * 3, **options)
    with Pool(address=address) as pool:
        ours = optimize.differential_evolution(hills, [(0, 2)] * 3, workers=pool.map, **options)
    assert ours.fun == alone.fun
    assert list(ours.x) == list(alone.x)


def test_scipy_searches_a_grid_over_the_map_of_a_pool(address: str) -> None:
    optimize = library("scipy.optimize")
    ranges = (slice(0, 2, 0.25), slice(0, 2, 0.25))
    with Pool(address=address) as pool:
        ours = optimize.brute(hills, ranges, finish=None, workers=pool.map)
    assert list(ours) == [1.0, 1.0]


def test_emcee_samples_over_a_pool(address: str) -> None:
    emcee = library("emcee")
    begin = np.random.default_rng(2).normal(size=(8, 2))

    def chain(pool: Any) -> Any:
        sampler = emcee.EnsembleSampler(8, 2, chance, pool=pool)
        sampler.random_state = np.random.RandomState(3).get_state()
        sampler.run_mcmc(begin, 10)
        return sampler.get_chain()

    with Pool(address=address) as pool:
        ours = chain(pool)
    assert np.array_equal(ours, chain(None))


def test_dask_computes_by_an_executor(address: str) -> None:
    dask: Any = library("dask")
    array = library("dask.array")
    bag = library("dask.bag")
    table = array.arange(10_000, chunks=1_000)
    doubled = dask.delayed(hills)
    with Executor(address=address) as executor:
        assert (table * 2).sum().compute(scheduler=executor) == 99_990_000
        assert bag.range(100, npartitions=5).map(abs).sum().compute(scheduler=executor) == 4_950
        parts = dask.delayed(sum)([doubled(np.full(3, value)) for value in (1.0, 2.0)])
        assert parts.compute(scheduler=executor) == 802.0
        with pytest.raises(ZeroDivisionError):
            dask.delayed(divmod)(1, 0).compute(scheduler=executor)
