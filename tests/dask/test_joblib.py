"""scikit-learn's own parallelism over the workers of Dask."""

import joblib
import numpy as np
import pytest
from dask.sizeof import sizeof
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_validate
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import HybridClassifier, ImageSequence, evaluate


def hybrid(**featurizer):
    booster = XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1)
    return HybridClassifier(tiny_featurizer(**featurizer), booster, random_state=0)


@pytest.fixture(scope="module")
def images(cells):
    return ImageSequence(cells.path, groups=cells.subject)


def test_images_are_sent_once(images, cells):
    # joblib scatters arguments above 1,000 bytes.
    assert sizeof(images) > 1000
    assert sizeof(images[:0]) < 1000


def test_cross_validate_and_evaluate_give_the_same_on_the_cluster(client, images, cells):
    cv = StratifiedGroupKFold(2)
    settings = {"cv": cv, "groups": cells.subject}
    here = cross_validate(hybrid(), images, cells.label, **settings)
    report = evaluate(hybrid(), images, cells.label, cv=2, random_state=0, n_bootstrap=10)
    with joblib.parallel_config("dask"):
        there = cross_validate(hybrid(), images, cells.label, **settings)
        other = evaluate(hybrid(), images, cells.label, cv=2, random_state=0, n_bootstrap=10)
    np.testing.assert_array_equal(there["test_score"], here["test_score"])
    np.testing.assert_array_equal(other.probabilities, report.probabilities)
    assert other.metrics == report.metrics


@pytest.mark.slow
def test_a_search_finds_the_same_on_the_cluster(client, images, cells, tmp_path):
    grid = {
        "classifier__max_depth": [1, 2, 3],
        "classifier__learning_rate": [0.1, 0.3],
        "classifier__reg_lambda": [1.0, 10.0],
    }
    found = []
    for where in ("sequential", "dask"):
        # Both find the features of each other's folds in nothing but their own cache.
        search = GridSearchCV(hybrid(cache=str(tmp_path / where)), grid, cv=StratifiedGroupKFold(5))
        with joblib.parallel_config(where):
            found.append(search.fit(images, cells.label, groups=cells.subject))
    here, there = found
    assert len(there.cv_results_["params"]) == 12
    assert there.n_splits_ == 5
    assert there.best_params_ == here.best_params_
    for split in range(5):
        name = f"split{split}_test_score"
        np.testing.assert_array_equal(there.cv_results_[name], here.cv_results_[name])
