import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import (
    HybridClassifier,
    ImageSequence,
    SiteAdaptedClassifier,
    iter_predictions,
    predict_images,
)
from effboost._iter_predictions import adapts_to_call
from effboost.exceptions import DroppedRowsWarning, ImageDecodeError, ImageNotFoundError


@pytest.fixture
def clf(pixels, three_classes):
    return HybridClassifier(tiny_featurizer(), random_state=0).fit(pixels, three_classes)


class Counting:
    """Counts the pictures that are read."""

    def __init__(self):
        self.n = 0

    def __call__(self, picture):
        self.n += 1
        return picture


@pytest.mark.parametrize("block_size", [1, 5, 24, 64])
def test_blocks_of_any_size_equal_the_classifiers_predictions(clf, paths, block_size):
    found = list(iter_predictions(clf, paths, block_size=block_size))
    assert [p.image for p in found] == paths
    np.testing.assert_array_equal([p.probabilities for p in found], clf.predict_proba(paths))
    np.testing.assert_array_equal([p.label for p in found], clf.predict(paths))
    assert {p.error for p in found} == {None}


def test_only_one_block_is_read_before_the_first_prediction(clf, pixels):
    counting = Counting()
    predictions = iter_predictions(clf, ImageSequence(pixels).map(counting), block_size=4)
    assert counting.n == 0
    for n in range(1, 25):
        next(predictions)
        assert counting.n == 4 * ((n + 3) // 4)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(clf, paths):
    def measure(n):
        tracemalloc.start()
        for _ in iter_predictions(clf, paths * n, block_size=8):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    measure(1)
    # A leak shows each time; what another thread of this process happens to allocate does not.
    growth = min(measure(40) - measure(10) for _ in range(3))
    # A path and its place take some 70 bytes; a picture of 40 x 40 would take 4,800.
    assert growth < 720 * 300


def test_broken_images_are_reported_and_the_others_predicted(clf, paths):
    expected = clf.predict_proba(paths)
    broken = [0, 5, 6, 7, 23]
    for i in broken:
        os.truncate(paths[i], 30 * (i % 3))
    paths[12] = "gone.png"
    found = list(iter_predictions(clf, paths, block_size=8))
    assert [i for i, p in enumerate(found) if p.error is not None] == [0, 5, 6, 7, 12, 23]
    assert "0 bytes" in found[0].error
    assert "no such file" in found[12].error
    assert found[5].label is found[5].probabilities is None
    good = [i for i, p in enumerate(found) if p.error is None]
    np.testing.assert_array_equal([found[i].probabilities for i in good], expected[good])


def test_a_block_of_which_nothing_can_be_read(clf, paths):
    for path in paths[8:16]:
        os.truncate(path, 0)
    found = list(iter_predictions(clf, paths, block_size=8))
    assert [p.error is None for p in found] == [True] * 8 + [False] * 8 + [True] * 8


def test_a_broken_image_costs_no_more_than_its_block_twice(clf, pixels):
    class Breaking(Counting):
        def __call__(self, picture):
            super().__call__(picture)
            return picture.resize((4, 4)) if np.asarray(picture)[0, 0, 0] % 2 else picture

    pixels[:, 0, 0, 0] = np.arange(24)
    breaking = Breaking()
    found = list(iter_predictions(clf, ImageSequence(pixels).map(breaking), block_size=24))
    assert [p.error is not None for p in found] == [False, True] * 12
    assert "is 4 x 4 pixels" in found[1].error
    assert breaking.n < 3 * 24


def test_heads_without_probabilities_predict_classes(pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer(), LinearSVC()).fit(pixels, three_classes)
    found = list(iter_predictions(clf, pixels))
    assert [p.label for p in found] == clf.predict(pixels).tolist()
    assert {p.probabilities is None for p in found} == {True}


def test_images_in_memory_are_named_by_position(pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer(), LogisticRegression()).fit(pixels, three_classes)
    found = list(iter_predictions(clf, pixels[:2]))
    assert [p.image for p in found] == ["position 0", "position 1"]


def test_invalid_arguments_raise_at_once(clf, pixels):
    with pytest.raises(ValueError, match="block_size=0 must be 1 or more"):
        iter_predictions(clf, pixels, block_size=0)
    with pytest.raises(NotFittedError):
        iter_predictions(HybridClassifier(), pixels)


def test_it_loads_no_torch():
    code = "import sys; from effboost import iter_predictions; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


def test_table_equals_the_classifiers_predictions(clf, paths):
    table = predict_images(clf, paths, block_size=7)
    np.testing.assert_array_equal(table.labels, clf.predict(paths))
    np.testing.assert_array_equal(table.probabilities, clf.predict_proba(paths))
    np.testing.assert_array_equal(table.positions, range(24))
    assert len(table.rejects) == 0


def test_table_of_the_others_and_of_rejects(clf, paths):
    labels, probabilities = clf.predict(paths), clf.predict_proba(paths)
    broken = [0, *range(8, 16), 17, 23]
    for i in broken:
        os.truncate(paths[i], 30 * (i % 3))
    paths[17] = "gone.png"
    with pytest.warns(DroppedRowsWarning, match=r"11 of 24 images .* no prediction"):
        table = predict_images(clf, paths, on_error="skip", block_size=8)
    good = [i for i in range(24) if i not in broken]
    assert table.positions.tolist() == good
    np.testing.assert_array_equal(table.labels, labels[good])
    np.testing.assert_array_equal(table.probabilities, probabilities[good])
    assert [row.position for row in table.rejects] == broken
    assert [row.path for row in table.rejects] == [paths[i] for i in broken]
    assert repr(table) == "<PredictionTable of 13, 11 rejected>"


def test_raise_names_the_first_that_cannot_be_read(clf, paths):
    os.truncate(paths[20], 50)
    paths[13] = "gone.png"
    with pytest.raises(ImageNotFoundError, match=r"image at position 13, 'gone.png'"):
        predict_images(clf, paths, block_size=4)
    with pytest.raises(ImageDecodeError, match=r"position 20, .*cell_20"):
        predict_images(clf, [*paths[:13], *paths[:7], paths[20]], block_size=4)


def test_table_without_probabilities_or_rows(pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer(), LinearSVC()).fit(pixels, three_classes)
    table = predict_images(clf, pixels)
    assert table.probabilities is None
    assert table.labels.tolist() == clf.predict(pixels).tolist()
    with pytest.warns(DroppedRowsWarning):
        table = predict_images(clf, ["gone.png"], on_error="skip")
    assert len(table) == 0
    assert table.probabilities is None
    with pytest.raises(ValueError, match="on_error='row'"):
        predict_images(clf, pixels, on_error="row")


@pytest.mark.parametrize("adapt", ["standardize", None])
def test_a_classifier_that_adapts_to_a_call_sees_all_images_at_once(pixels, three_classes, adapt):
    head = SiteAdaptedClassifier(LogisticRegression(), adapt=adapt)
    clf = HybridClassifier(tiny_featurizer(), head).fit(pixels, three_classes)
    darker = np.sort(pixels // 2, axis=0)
    expected = clf.predict_proba(darker)
    table = predict_images(clf, darker, block_size=20)
    np.testing.assert_array_equal(table.probabilities, expected)
    found = [p.probabilities for p in iter_predictions(clf, darker, block_size=20)]
    np.testing.assert_array_equal(found, expected)
    few = SiteAdaptedClassifier(LogisticRegression(C=0.5), adapt=adapt, min_samples=2)
    heads = {"classifier": [few, clone(few).set_params(estimator__C=2)]}
    plain = HybridClassifier(tiny_featurizer(), LogisticRegression())
    chosen = GridSearchCV(plain, heads, cv=2).fit(pixels, three_classes)
    assert not adapts_to_call(plain.fit(pixels, three_classes))
    for outer in (chosen, FrozenEstimator(chosen)):
        assert adapts_to_call(outer) == (adapt is not None)
        found = predict_images(outer, darker, block_size=20).probabilities
        np.testing.assert_array_equal(found, outer.predict_proba(darker))
    one_by_one = [clf.predict_proba(darker[:20])[0], clf.predict_proba(darker)[0]]
    assert np.array_equal(*one_by_one) == (adapt is None)


def test_no_images_give_no_predictions(pixels, three_classes):
    for head in (LogisticRegression(), SiteAdaptedClassifier(LogisticRegression())):
        clf = HybridClassifier(tiny_featurizer(), head).fit(pixels, three_classes)
        nothing = ImageSequence(pixels)[:0]
        assert list(iter_predictions(clf, nothing)) == []
        assert predict_images(clf, nothing).probabilities.shape == (0, 3)


@pytest.mark.parametrize("view_averaging", ["features", "probabilities"])
@pytest.mark.parametrize("head", [LogisticRegression(), XGBClassifier(n_estimators=3)])
def test_predict_accepts_no_images(pixels, three_classes, head, view_averaging):
    featurizer = tiny_featurizer(views="dihedral")
    clf = HybridClassifier(featurizer, head, view_averaging=view_averaging)
    clf.fit(pixels, three_classes)
    nothing, one = ImageSequence(pixels)[:0], ImageSequence(pixels)[:1]
    for method in (clf.predict, clf.predict_proba):
        assert method(nothing).shape == (0, *method(one).shape[1:])
        assert method(nothing).dtype == method(one).dtype
