"""Classifiers flag images that are unlike those that they were fitted on."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

import effboost
from common.networks import tiny_featurizer
from effboost import (
    Cache,
    HybridClassifier,
    LinearBoostedClassifier,
    OnnxClassifier,
    export_onnx,
    iter_predictions,
)
from effboost._extraction import prepared_images
from effboost._familiarity import FamiliarityTable, TrainingRange
from effboost._heads.feature_distance import FeatureDistance
from effboost._images.decoding import Decoder
from effboost.exceptions import UnsupportedInputError


def hybrid(**settings):
    return HybridClassifier(tiny_featurizer(), LogisticRegression(), random_state=0, **settings)


@pytest.fixture
def clf(pixels, three_classes, subjects):
    return hybrid().fit(pixels, three_classes, groups=subjects)


def unfamiliar(pixels):
    """Without noise; in other light; in another size."""
    flat = np.full_like(pixels[0], 30)
    flat[10:20] = (0, 200, 255)
    dark = pixels[0] // 4
    large = np.resize(pixels[0], (200, 200, 3))
    return [flat, dark, large]


def test_training_images_are_familiar_and_others_are_not(clf, pixels):
    table = clf.check_familiarity(pixels)
    assert isinstance(table, FamiliarityTable)
    assert len(table) == 24
    assert table.familiar.mean() > 0.9
    others = clf.check_familiarity(unfamiliar(pixels))
    assert not others.familiar.any()
    assert others.p_values[0] == pytest.approx(2 / 25)
    assert "features" in others.reasons[0]
    assert "blur" not in others.reasons[1]
    assert "exposure" in others.reasons[1]
    assert "size" in others.reasons[2]
    assert repr(others) == "<FamiliarityTable of 3, 3 unfamiliar>"


def test_alpha_is_the_largest_p_value_to_flag(clf, pixels):
    table = clf.check_familiarity(pixels, alpha=0.5)
    of_features = np.array(["features" in reasons for reasons in table.reasons])
    np.testing.assert_array_equal(of_features, table.p_values <= 0.5)
    with pytest.raises(ValueError, match="alpha=2 must be a number from 0 to 1"):
        clf.check_familiarity(pixels, alpha=2)


def test_predict_with_flags_reads_each_image_once(clf, pixels, paths, monkeypatch):
    counts = []
    read = Decoder.read_file
    monkeypatch.setattr(
        Decoder,
        "read_file",
        lambda self, path, *args: counts.append(path) or read(self, path, *args),
    )
    labels, table = clf.predict(paths, flags=True)
    assert sorted(map(str, counts)) == sorted(paths)
    np.testing.assert_array_equal(labels, clf.predict(pixels))
    np.testing.assert_allclose(table.p_values, clf.check_familiarity(pixels).p_values)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HybridClassifier(
            tiny_featurizer(extra_features="stages", views="rotations"), LinearBoostedClassifier()
        ),
        lambda: HybridClassifier(
            tiny_featurizer(views="rotations"),
            LogisticRegression(),
            view_averaging="probabilities",
        ),
        lambda: HybridClassifier(
            tiny_featurizer(fine_tune=True, max_epochs=1), head_protocol="holdout"
        ),
    ],
    ids=["stages", "views", "tuned"],
)
def test_all_kinds_of_features(make, pixels, three_classes, subjects):
    clf = make().set_params(random_state=0).fit(pixels, three_classes, groups=subjects)
    if clf.head_protocol == "holdout":
        # Too few images are left for the head.
        assert not hasattr(clf, "check_familiarity")
        return
    assert clf.check_familiarity(pixels).familiar.mean() > 0.9
    assert not clf.check_familiarity(unfamiliar(pixels)).familiar.any()


def test_copies_flag_the_same(clf, pixels, tmp_path):
    images = [*pixels[:4], *unfamiliar(pixels)]
    expected = clf.check_familiarity(images)
    for copy in (
        pickle.loads(pickle.dumps(clf)),
        effboost.load(
            effboost.save(clf, tmp_path / "clf.effboost"), backbone=clf.featurizer.backbone
        ),
    ):
        found = copy.check_familiarity(images)
        np.testing.assert_array_equal(found.p_values, expected.p_values)
        np.testing.assert_array_equal(found.reasons, expected.reasons)
    assert not hasattr(clone(clf), "familiarity_")
    with pytest.raises(NotFittedError):
        clone(clf).check_familiarity(pixels)


def test_a_second_fit_forgets_the_first(clf, pixels, three_classes, tmp_path):
    clf.fit(pixels[:9], three_classes[:9])
    assert not hasattr(clf, "check_familiarity")
    with pytest.raises(UnsupportedInputError, match="fitted on fewer than 10 images"):
        clf.predict(pixels, flags=True)
    with pytest.raises(UnsupportedInputError, match="images cannot be flagged"):
        iter_predictions(clf, pixels, flags=True)
    path = effboost.save(clf, tmp_path / "clf.effboost")
    again = effboost.load(path, backbone=clf.featurizer.backbone)
    assert not hasattr(again, "check_familiarity")
    graph = OnnxClassifier(export_onnx(clf, tmp_path / "clf.onnx"))
    with pytest.raises(UnsupportedInputError, match=r"'.*clf.onnx' does not know which images"):
        graph.predict(pixels, flags=True)


def test_predictions_one_by_one_have_flags(clf, pixels, tmp_path):
    images = [pixels[0], pixels[1][:4], unfamiliar(pixels)[0]]
    first, broken, last = iter_predictions(clf, images, flags=True)
    expected = clf.check_familiarity([images[0], images[2]])
    assert (first.familiar, last.familiar) == (True, False)
    np.testing.assert_array_equal([first.familiarity, last.familiarity], expected.p_values)
    assert last.reasons == expected.reasons[1]
    assert broken.error is not None
    assert broken.familiar is broken.familiarity is None
    (plain,) = iter_predictions(clf, images[:1])
    assert plain.familiar is None


def test_an_exported_model_flags_the_same(pixels, three_classes, subjects, tmp_path):
    clf = HybridClassifier(
        tiny_featurizer(views="rotations", extra_features="stages", image_size=35),
        LogisticRegression(),
        random_state=0,
    ).fit(pixels, three_classes, groups=subjects)
    images = [*pixels, *(pixels[::-1] // 2 + 40), *unfamiliar(pixels)]
    expected = clf.check_familiarity(images)
    graph = OnnxClassifier(export_onnx(clf, tmp_path / "clf.onnx"))
    labels, found = graph.predict(images, flags=True)
    np.testing.assert_allclose(found.p_values, expected.p_values, atol=1e-4)
    assert len(np.unique(expected.p_values)) > 3
    np.testing.assert_array_equal(found.reasons, expected.reasons)
    np.testing.assert_array_equal(labels, clf.predict(images))
    row = next(iter_predictions(graph, images, flags=True))
    assert row.familiarity == pytest.approx(expected.p_values[0], abs=1e-4)
    stricter = graph.check_familiarity(images, alpha=0.5)
    np.testing.assert_array_equal(
        stricter.reasons, clf.check_familiarity(images, alpha=0.5).reasons
    )


def test_features_in_a_cache_need_no_image(paths, three_classes, subjects, tmp_path, monkeypatch):
    def fit(C, cache):
        clf = HybridClassifier(tiny_featurizer(cache=cache), LogisticRegression(C=C))
        return clf.fit(paths, three_classes, groups=subjects)

    expected = fit(1, None).check_familiarity(paths)
    fit(1, tmp_path)
    monkeypatch.setattr(Decoder, "read_file", None)
    monkeypatch.setattr(FeatureDistance, "_fit", None)
    found = fit(2, tmp_path).check_familiarity(paths)
    np.testing.assert_array_equal(found.p_values, expected.p_values)
    np.testing.assert_array_equal(found.reasons, expected.reasons)


def test_measures_are_written_to_a_cache_in_blocks(paths, three_classes, tmp_path, monkeypatch):
    """A write is flushed to the disk, which takes longer than to measure an image."""
    clf = HybridClassifier(
        tiny_featurizer(cache=tmp_path / "cache"), LogisticRegression(), random_state=0
    )
    clf.featurizer.fit(paths).transform(paths)  # which measures nothing
    sizes, put = [], Cache.put
    monkeypatch.setattr(
        Cache, "put", lambda self, entries: (sizes.append(len(entries)), put(self, entries))
    )
    monkeypatch.setattr(prepared_images, "_BLOCK", 10)
    first = clf.fit(paths, three_classes).familiarity_
    assert sizes == [1, 10, 10, 4, 1]  # first and last, the distances of features and colours
    monkeypatch.setattr(Decoder, "read_file", None)
    second = clf.fit(paths, three_classes).familiarity_
    assert len(sizes) == 5
    np.testing.assert_array_equal(first.usual.ranges, second.usual.ranges)


@pytest.mark.parametrize(
    "values",
    [
        {"images": 0, "ranges": [[0] * 5] * 2},
        {"images": True, "ranges": [[0] * 5] * 2},
        {"images": 3, "ranges": [[0] * 4] * 2},
        {"images": 3, "ranges": [[float("nan")] * 5] * 2},
    ],
    ids=["none", "bool", "short", "nan"],
)
def test_damaged_ranges_are_refused(values):
    with pytest.raises(ValueError, match=r"images=|ranges="):
        TrainingRange.from_plain(values)
