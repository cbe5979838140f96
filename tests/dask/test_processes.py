"""Worker processes: the same results as on one machine, also where some of them are killed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from xgboost import XGBClassifier

from common.killing import kill_worker
from common.networks import tiny_featurizer
from common.slow import SlowNet, SlowRounds
from effboost import HybridClassifier
from effboost.dask import DaskHybridClassifier

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


def run_and_kill(client, work, task, after):
    client.wait_for_workers(2)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(work)
        kill_worker(client, task, after=after)
        return job.result()


def test_a_worker_is_killed_in_mid_extraction(processes, fitted, X, cells):
    features = run_and_kill(
        processes, lambda: fitted.transform(X).compute(), "effboost-transform", 0.02
    )
    np.testing.assert_array_equal(features, fitted.to_local().transform(list(cells.path)))


def test_a_worker_is_killed_while_it_writes(processes, fitted, X, cells, tmp_path):
    folder = tmp_path / "out"
    run_and_kill(processes, lambda: fitted.predict_to_parquet(X, folder), "toparquetdata", 0.02)
    assert pd.read_parquet(folder).path.tolist() == cells.path.tolist()


def test_a_worker_is_killed_while_the_head_is_trained(processes, fitted, local, X, cells):
    clf = DaskHybridClassifier.from_local(local)
    # The name that xgboost.dask gives its tasks.
    run_and_kill(processes, lambda: clf.fit(X, "label", groups="subject"), "fn-", 0.3)
    assert len(clf.evals_result_["train"]["mlogloss"]) == 60
    assert (clf.predict(X).compute() == cells.label).mean() > 0.9
