"""Worker processes: the same results as on one machine, also where some of them are killed."""

import asyncio
import os
import signal
import time
from contextlib import nullcontext
from threading import Timer

import dask
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from xgboost import XGBClassifier

from common.killing import run_and_kill, wait_for_workers
from common.networks import tiny_featurizer
from common.slow import SlowNet, SlowRounds
from effboost import HybridClassifier
from effboost.dask import DaskHybridClassifier
from effboost.dask._head import _end_what_still_trains, _repeat_if_workers_are_lost, _trains

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def local():
    booster = XGBClassifier(n_estimators=60, max_depth=3, callbacks=[SlowRounds()])
    return HybridClassifier(tiny_featurizer(backbone=SlowNet), booster, random_state=0)


@pytest.fixture(scope="module")
def fitted(local, cells):
    return DaskHybridClassifier.from_local(clone(local).fit(list(cells.path), cells.label))


def test_results_are_those_of_one_machine(processes, local, X, cells):
    paths = list(cells.path)
    fitted = DaskHybridClassifier.from_local(local).fit(X, "label", groups="subject")
    twin = fitted.to_local()
    np.testing.assert_allclose(fitted.transform(X).compute(), twin.transform(paths), rtol=1e-6)
    np.testing.assert_array_equal(fitted.predict_proba(X).compute(), twin.predict_proba(paths))
    # The cells are easy to tell apart, by trees of either kind.
    local = clone(local).fit(paths, cells.label, groups=cells.subject)
    accuracy = (fitted.predict(X).compute() == cells.label).mean()
    assert accuracy == pytest.approx(local.score(paths, cells.label), abs=0.05)


def test_a_worker_is_killed_in_mid_extraction(processes, fitted, X, cells):
    features = run_and_kill(processes, lambda: fitted.transform(X).compute(), "effboost-transform")
    np.testing.assert_array_equal(features, fitted.to_local().transform(list(cells.path)))


def test_a_worker_is_killed_while_it_writes(processes, fitted, X, cells, tmp_path):
    folder = tmp_path / "out"
    run_and_kill(processes, lambda: fitted.predict_to_parquet(X, folder), "toparquetdata")
    assert pd.read_parquet(folder).path.tolist() == cells.path.tolist()


# Not before the rounds have begun: while the workers join each other, the loss of one can end the
# process of the scheduler, in which XGBoost's tracker runs (`std::terminate` in XGBoost 3.2).
def test_a_worker_is_killed_while_the_head_is_trained(processes, local, X, cells):
    clf = DaskHybridClassifier.from_local(local)
    run_and_kill(
        processes,
        lambda: clf.fit(X, "label", groups="subject"),
        "fn-",  # the name that xgboost.dask gives its tasks
        after=0.1,
        ready=SlowRounds.have_begun,
    )
    assert len(clf.evals_result_["train"]["mlogloss"]) == 60
    assert (clf.predict(X).compute() == cells.label).mean() > 0.9


@pytest.mark.parametrize("allowed", [1, 0])
def test_training_that_waits_for_a_lost_worker_begins_anew(processes, allowed):
    wait_for_workers(processes, 2)
    survivor, victim = processes.nthreads()
    data = [
        processes.submit(abs, i, workers=[worker], allow_other_workers=True)
        for i, worker in enumerate((survivor, victim))
    ]
    attempts = []

    async def train():
        attempts.append(len(attempts))
        if len(attempts) == 1:
            await asyncio.Event().wait()

    victims_pid = processes.run(os.getpid)[victim]
    killing = Timer(1.0, os.kill, (victims_pid, signal.SIGKILL))
    killing.start()
    too_often = pytest.raises(RuntimeError, match="lost a worker 1 times")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": allowed}),
        nullcontext() if allowed else too_often,
    ):
        _repeat_if_workers_are_lost(processes, data, train)
    killing.join()
    assert len(attempts) == 1 + allowed


def test_workers_that_wait_in_training_are_ended(processes, monkeypatch):
    monkeypatch.setattr("effboost.dask._head._PATIENCE", 1.0)
    wait_for_workers(processes, 2)
    address = next(iter(processes.nthreads()))
    waiting = processes.submit(time.sleep, 1000, key="fn-1", workers=[address])
    while not processes.run(_trains)[address]:
        time.sleep(0.02)
    waiting.cancel()
    _end_what_still_trains(processes)
    while address in processes.nthreads():
        time.sleep(0.02)
    assert processes.submit(sum, [1, 2]).result(timeout=60) == 3


def test_errors_of_training_are_raised(processes):
    async def fail():
        raise ValueError("no rounds")

    with pytest.raises(ValueError, match="no rounds"):
        _repeat_if_workers_are_lost(processes, [], fail)
