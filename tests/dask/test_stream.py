import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from common.networks import tiny_featurizer
from effboost import HybridClassifier, SiteAdaptedClassifier, dask, iter_predictions
from effboost.exceptions import UnsupportedInputError


def test_predictions_come_in_order_with_the_errors(client, cells, tmp_path):
    clf = HybridClassifier(tiny_featurizer(), random_state=0)
    clf.set_params(classifier__n_estimators=3).fit(list(cells.path), cells.label)
    (tmp_path / "damaged.png").write_bytes(b"no image")
    paths = [*cells.path[:30], str(tmp_path / "damaged.png"), *cells.path[30:]]
    here = list(iter_predictions(clf, paths))
    there = list(dask.iter_predictions(clf, paths, block_size=4))
    assert [p.image for p in there] == paths
    assert [(p.label, p.error) for p in there] == [(p.label, p.error) for p in here]
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
    with pytest.raises(ValueError, match="block_size=0"):
        dask.iter_predictions(clf, paths, block_size=0)


def test_images_from_memory_keep_their_positions(client, pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer(), random_state=0)
    clf.set_params(classifier__n_estimators=3).fit(pixels, three_classes)
    there = list(dask.iter_predictions(clf, pixels, client=client, block_size=5))
    assert [p.image for p in there] == [f"position {i}" for i in range(24)]
    assert [p.label for p in there] == clf.predict(pixels).tolist()


def test_a_classifier_that_adapts_to_a_call_is_refused(client, pixels, three_classes):
    head = SiteAdaptedClassifier(LogisticRegression())
    clf = HybridClassifier(tiny_featurizer(), head).fit(pixels, three_classes)
    with pytest.raises(UnsupportedInputError, match="adapts to the images of a call"):
        dask.iter_predictions(clf, pixels, client=client)
