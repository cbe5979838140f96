"""An evaluation computes the features of a frozen network once for all of its fits."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import Cache, CNNClassifier, HybridClassifier, evaluate
from effboost._extraction.temporary_cache import find_temporary_cache, share_cache, temporary_cache
from effboost.evaluation import learning_curve
from effboost.runtime import TorchRuntime

TREES = XGBClassifier(n_estimators=3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files lie."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def computed(monkeypatch):
    """How often the features of each image were computed, by its pixels."""
    counts = Counter()
    run = TorchRuntime.run

    def counting(self, pixels):
        # A black picture only asks for the number of features.
        counts.update(picture.tobytes() for picture in pixels if picture.any())
        return run(self, pixels)

    monkeypatch.setattr(TorchRuntime, "run", counting)
    return counts


def frozen(**params):
    return HybridClassifier(tiny_featurizer(**params), TREES, random_state=0)


def test_each_image_is_computed_once(folder, computed, pixels, three_classes, subjects):
    found = evaluate(frozen(), pixels, three_classes, groups=subjects, cv=4, return_estimator=True)
    assert sorted(computed.values()) == [1] * len(pixels)
    assert list(folder.iterdir()) == []
    for number, model in enumerate(found.estimators):
        train, test = found.fold != number, found.fold == number
        assert model.featurizer.cache is model.featurizer_.cache is None
        alone = frozen().fit(pixels[train], three_classes[train], groups=subjects[train])
        expected = alone.predict_proba(pixels[test])
        np.testing.assert_array_equal(found.probabilities[test], expected)
        np.testing.assert_array_equal(model.predict_proba(pixels[test]), expected)
    assert list(folder.iterdir()) == []


def test_searches_inside_share_it(folder, computed, pixels, three_classes, subjects):
    search = GridSearchCV(frozen(), {"classifier__max_depth": [1, 2]}, cv=2)
    evaluate(search, pixels, three_classes, groups=subjects, cv=3)
    assert sorted(computed.values()) == [1] * len(pixels)


def test_a_learning_curve_computes_each_image_once(
    folder, computed, pixels, three_classes, subjects
):
    learning_curve(
        frozen(), pixels, three_classes, groups=subjects, fractions=(0.5, 1), cv=2, n_repeats=2
    )
    assert sorted(computed.values()) == [1] * len(pixels)
    assert list(folder.iterdir()) == []


def test_tuned_networks_and_own_caches_do_not_use_it(
    folder, tmp_path_factory, pixels, three_classes, subjects
):
    seen = []

    class Looking(XGBClassifier):
        def fit(self, X, y, **params):
            seen.append(find_temporary_cache().folder)
            assert not list(Path(seen[-1]).iterdir())
            return super().fit(X, y, **params)

    own = tmp_path_factory.mktemp("own")
    tuned = tiny_featurizer(fine_tune=True, max_epochs=1)
    for featurizer in (tuned, tiny_featurizer(cache=str(own))):
        clf = HybridClassifier(featurizer, Looking(n_estimators=2), random_state=0)
        evaluate(clf, pixels, three_classes, groups=subjects, cv=2)
    evaluate(CNNClassifier(tuned), pixels, three_classes, groups=subjects, cv=2)
    assert len(seen) == 4
    assert list(own.iterdir())


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_folds_in_parallel_share_it(folder, backend, pixels, three_classes, subjects, tmp_path):
    alone = evaluate(frozen(), pixels, three_classes, groups=subjects, cv=3)
    with parallel_config(backend, n_jobs=2):
        found = evaluate(frozen(), pixels, three_classes, groups=subjects, cv=3)
    np.testing.assert_array_equal(found.probabilities, alone.probabilities)
    assert list(folder.iterdir()) == []


def test_it_is_deleted_after_an_error(folder, pixels, three_classes, subjects):
    failing = HybridClassifier(tiny_featurizer(), XGBClassifier(max_depth=-1), random_state=0)
    with pytest.raises(Exception, match="max_depth"):
        evaluate(failing, pixels, three_classes, groups=subjects, cv=2)
    assert list(folder.iterdir()) == []
    assert find_temporary_cache() is None


def test_nothing_is_kept_without_a_place_for_it(
    tmp_path, monkeypatch, computed, pixels, three_classes, subjects
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    evaluate(frozen(), pixels, three_classes, groups=subjects, cv=2)
    assert set(computed.values()) == {2}
    with share_cache(Cache(tmp_path / "of another machine")):
        assert find_temporary_cache() is None
    assert list(tmp_path.iterdir()) == []


def test_blocks_inside_another_use_its_folder(folder):
    with temporary_cache():
        outer = find_temporary_cache()
        with temporary_cache():
            assert find_temporary_cache() == outer
        assert find_temporary_cache() == outer
        assert [str(place) for place in folder.iterdir()] == [str(outer.folder)]
    assert find_temporary_cache() is None
