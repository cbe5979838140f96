"""Worker processes: the same results as on one machine, also where some of them are killed."""

import os
import signal
import time
from concurrent.futures import Future
from threading import Thread

import numpy as np
import pandas as pd
import pytest
from xgboost import XGBClassifier

from common.killing import kill_worker
from common.networks import tiny_featurizer
from common.slow import SlowNet, SlowRounds
from effboost import HybridClassifier
from effboost.dask import DaskHybridClassifier
from effboost.dask._head import _repeat_if_workers_are_lost

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def local():
    booster = XGBClassifier(n_estimators=60, max_depth=3, callbacks=[SlowRounds()])
    return HybridClassifier(tiny_featurizer(backbone=SlowNet), booster, random_state=0)


@pytest.fixture(scope="module")
def fitted(processes, local, X):
    return DaskHybridClassifier.from_local(local).fit(X, "label", groups="subject")


def test_results_are_those_of_one_machine(fitted, local, X, cells):
    paths = list(cells.path)
    twin = fitted.to_local()
    np.testing.assert_allclose(fitted.transform(X).compute(), twin.transform(paths), rtol=1e-6)
    np.testing.assert_array_equal(fitted.predict_proba(X).compute(), twin.predict_proba(paths))
    # The cells are easy to tell apart, by trees of either kind.
    local.fit(paths, cells.label, groups=cells.subject)
    accuracy = (fitted.predict(X).compute() == cells.label).mean()
    assert accuracy == pytest.approx(local.score(paths, cells.label), abs=0.05)


def run_and_kill(client, work, task, *, after=0.02, ready=None):
    client.wait_for_workers(2)
    job = Future()

    def run():
        try:
            job.set_result(work())
        except BaseException as error:
            job.set_exception(error)

    # Neither the test nor the interpreter waits for this thread at its end, if it hangs.
    Thread(target=run, daemon=True).start()
    kill_worker(client, task, after=after, ready=ready)
    return job.result(timeout=200)


def test_a_worker_is_killed_in_mid_extraction(processes, fitted, X, cells):
    features = run_and_kill(processes, lambda: fitted.transform(X).compute(), "effboost-transform")
    np.testing.assert_array_equal(features, fitted.to_local().transform(list(cells.path)))


def test_a_worker_is_killed_while_it_writes(processes, fitted, X, cells, tmp_path):
    folder = tmp_path / "out"
    run_and_kill(processes, lambda: fitted.predict_to_parquet(X, folder), "toparquetdata")
    assert pd.read_parquet(folder).path.tolist() == cells.path.tolist()


# Not before the rounds have begun: while the workers join each other, the loss of one can end the
# process of the scheduler, in which XGBoost's tracker runs (`std::terminate` in XGBoost 3.2).
def test_a_worker_is_killed_while_the_head_is_trained(processes, fitted, local, X, cells):
    clf = DaskHybridClassifier.from_local(local)
    processes.run(SlowRounds.forget)
    run_and_kill(
        processes,
        lambda: clf.fit(X, "label", groups="subject"),
        "fn-",  # the name that xgboost.dask gives its tasks
        after=0.1,
        ready=SlowRounds.have_begun,
    )
    assert len(clf.evals_result_["train"]["mlogloss"]) == 60
    assert (clf.predict(X).compute() == cells.label).mean() > 0.9


def test_training_that_waits_for_a_lost_worker_begins_anew(processes, monkeypatch):
    monkeypatch.setattr("effboost.dask._head._PATIENCE", 1.0)
    processes.wait_for_workers(2)
    survivor, victim = processes.nthreads()
    pids = processes.run(os.getpid)
    data = [
        processes.submit(abs, i, workers=[worker], allow_other_workers=True)
        for i, worker in enumerate((survivor, victim))
    ]
    attempts = []

    async def train():
        attempts.append(len(attempts))
        if len(attempts) == 1:
            # What XGBoost does where a worker is lost before all have joined.
            await processes.submit(time.sleep, 1000, key="fn-1", workers=[survivor])

    def kill():
        while not any(str(key) == "fn-1" for key in processes.processing()[survivor]):
            time.sleep(0.02)
        os.kill(pids[victim], signal.SIGKILL)

    thread = Thread(target=kill)
    thread.start()
    _repeat_if_workers_are_lost(processes, data, train)
    thread.join()
    assert len(attempts) == 2
    processes.wait_for_workers(2)
    # The thread of the survivor is free again: its process is another one.
    assert set(processes.run(os.getpid).values()).isdisjoint(pids.values())
    assert processes.submit(sum, [1, 2], pure=False).result(timeout=30) == 3


def test_errors_of_training_are_raised(processes):
    async def fail():
        raise ValueError("no rounds")

    with pytest.raises(ValueError, match="no rounds"):
        _repeat_if_workers_are_lost(processes, [], fail)
