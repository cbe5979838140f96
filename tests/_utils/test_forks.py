"""Forked children, which GNU OpenMP leaves without the threads that it goes on to wait for."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# In a process of its own, which may start with more than one thread.
_SCRIPT = """
import os, signal, sys, time
import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from xgboost import XGBClassifier
sys.path.insert(0, sys.argv[1])
from common.networks import tiny_featurizer
from effboost import HybridClassifier

X = np.random.default_rng(0).integers(0, 256, (24, 40, 40, 3), dtype=np.uint8)
y = np.arange(24) % 2

def run_forked(work):
    child = os.fork()
    if not child:
        signal.alarm(30)  # what hangs is killed
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def repeat(clf, expected):
    same = np.array_equal(clf.predict_proba(X), expected)
    if clf.featurizer.runtime != "openvino":  # an export takes seconds
        clf.fit(X, y)
    return same and torch.get_num_threads() == 1

def check(clf):
    expected = clf.fit(X, y).predict_proba(X)
    in_child = run_forked(lambda: repeat(clf, expected))
    in_grandchild = run_forked(lambda: run_forked(lambda: repeat(clf, expected)) == 0)
    print(type(clf.classifier_).__name__, in_child, in_grandchild)

kind = sys.argv[2]
if kind == "xgboost":
    check(HybridClassifier(tiny_featurizer(), XGBClassifier(n_estimators=3)))
    check(HybridClassifier(tiny_featurizer(), XGBClassifier(n_estimators=3, n_jobs=2)))
elif kind == "trained":
    head = HistGradientBoostingClassifier(max_iter=3)
    check(HybridClassifier(tiny_featurizer(fine_tune=True, max_epochs=1), head, random_state=0))
else:
    check(HybridClassifier(tiny_featurizer(runtime="openvino"), XGBClassifier(n_estimators=3)))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("xgboost", "XGBClassifier 0 0 XGBClassifier 0 0"),
        ("trained", "HistGradientBoostingClassifier 0 0"),
        ("openvino", "XGBClassifier 0 0"),
    ],
)
def test_children_predict_and_fit_in_one_thread(kind, expected):
    tests = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, tests, kind],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        timeout=200,
    )
    assert done.stdout.split() == expected.split(), done.stderr
