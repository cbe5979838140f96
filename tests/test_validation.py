import numpy as np
import pandas as pd
import pytest

from effboost import ImageSequence
from effboost._validation import LabelledImages, check_validation
from effboost.exceptions import LeakageError, SplitError, UnsupportedInputError


@pytest.fixture
def images(pixels, subjects):
    return ImageSequence(pixels, groups=subjects)


def test_groups_default_to_those_of_the_images(images, three_classes, subjects):
    rows = LabelledImages.check(images, three_classes)
    assert np.array_equal(rows.groups, subjects)
    other = LabelledImages.check(images, three_classes, groups=np.arange(24))
    assert np.array_equal(other.groups, np.arange(24))
    assert LabelledImages.check(ImageSequence(["a"] * 24), three_classes).groups is None


def test_take_slices_all_columns(images, three_classes, subjects):
    weight = np.arange(1.0, 25.0)
    part = LabelledImages.check(images, three_classes, sample_weight=weight).take(np.array([5, 2]))
    assert part.labels.tolist() == three_classes[[5, 2]].tolist()
    assert part.groups.tolist() == subjects[[5, 2]].tolist()
    assert part.weight.tolist() == [6.0, 3.0]
    assert np.array_equal(part.images[0], images[5])


def test_labels_are_encoded_by_class_position(images, three_classes):
    rows = LabelledImages.check(images, three_classes)
    classes = rows.classes()
    assert np.array_equal(classes[rows.encode(classes)], three_classes)
    assert rows.encode(classes).dtype == np.int64


def test_train_validation_split_keeps_subjects_together(images, three_classes):
    groups = np.array([f"S{i % 12}" for i in range(24)])
    rows = LabelledImages.check(images, three_classes, groups=groups)
    left, cut = rows.train_validation_split(0.25, seed=0)
    assert not set(left.groups) & set(cut.groups)
    assert len(left.labels) + len(cut.labels) == 24
    assert set(left.labels) == set(cut.labels) == set(three_classes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": ["a"] * 23}, "24 images, but y has 23"),
        ({"sample_weight": [1.0] * 3}, "sample_weight has 3"),
        ({"sample_weight": [1.0, np.nan] * 12}, "is nan at position 1; weights must be finite"),
        ({"sample_weight": [1.0, 1.0, -2.0] * 8}, "is -2.0 at position 2; weights must be"),
        ({"sample_weight": [0.0] * 24}, "sample_weight is zero for all images"),
        ({"y": np.linspace(0, 1, 24)}, "Unknown label type"),
    ],
)
def test_invalid_arguments_raise(images, three_classes, arguments, message):
    y = arguments.pop("y", three_classes)
    with pytest.raises(ValueError, match=message):
        LabelledImages.check(images, y, **arguments)


def test_validation_images_are_checked_against_training_images(images, three_classes):
    train = LabelledImages.check(images[:12], three_classes[:12])

    def take(X, *, reset):
        assert reset is False
        return X

    assert check_validation(train, take, None, None, None) is None
    found = check_validation(train, take, images[12:], three_classes[12:], None)
    assert len(found.labels) == 12
    with pytest.raises(LeakageError, match="'S0'"):
        check_validation(train, take, images[:3], three_classes[:3], None)
    with pytest.raises(UnsupportedInputError, match="y_val has the class 'new'"):
        check_validation(train, take, images[12:], ["new"] * 12, None)
    with pytest.raises(UnsupportedInputError, match="only one of X_val and y_val"):
        check_validation(train, take, None, three_classes, None)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, ""], ids=str)
@pytest.mark.parametrize("form", [list, tuple, lambda y: np.array(y, dtype=object), pd.Series])
def test_missing_label_raises_with_position(pixels, missing, form):
    y = ["ALL", "HEM", missing] * 8
    with pytest.raises(UnsupportedInputError, match="label at position 2 is missing"):
        LabelledImages.check(ImageSequence(pixels), form(y))


def test_mixed_labels_raise_with_positions(pixels):
    with pytest.raises(UnsupportedInputError, match="'a' at position 0, 1 at position 1"):
        LabelledImages.check(ImageSequence(pixels), ["a", 1] * 12)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, ""], ids=str)
def test_missing_subject_raises_with_position(pixels, missing):
    groups = ["S1", missing, "S2"] * 8
    for form in (groups, np.array(groups, dtype=object), pd.Series(groups, dtype=object)):
        with pytest.raises(SplitError, match="missing for 8 images, the first at position 1"):
            LabelledImages.check(ImageSequence(pixels), [0, 1] * 12, groups=form)


def test_images_with_weight_zero_are_left_out(pixels):
    weight = np.arange(24) % 3
    rows = LabelledImages.check(ImageSequence(pixels), np.arange(24) % 3, sample_weight=weight)
    assert rows.classes().tolist() == [1, 2]
    assert len(rows.images) == 16


@pytest.mark.parametrize("weights", [{0: -1.0}, {0: np.nan}, {0: 0, 1: 0}], ids=str)
def test_invalid_class_weights_raise(pixels, weights):
    rows = LabelledImages.check(ImageSequence(pixels), [0, 1] * 12)
    with pytest.raises(UnsupportedInputError, match=r"class_weight=.* must be finite"):
        rows.weights_with_classes(weights)


def sampled(sampling):
    """9 images of class a: 6 of subject p, 2 of q, 1 of r; 3 of class b: 2 of p, 1 of s."""
    rows = LabelledImages.check(
        ImageSequence(np.zeros((12, 4, 4, 3), np.uint8)),
        np.array(list("aaaaaaaaabbb")),
        groups=np.array(list("ppppppqqrpps")),
    )
    return rows.sampling_weights(sampling)


def test_sampling_weights_balance_classes_and_subjects():
    assert sampled(None) is None
    by_class = sampled("class")
    np.testing.assert_allclose(by_class, [1 / 18] * 9 + [1 / 6] * 3)
    by_subject = sampled("subject")
    p, q, r, s = 1 / 4 / 8, 1 / 4 / 2, 1 / 4, 1 / 4
    np.testing.assert_allclose(by_subject, [p] * 6 + [q] * 2 + [r] + [p] * 2 + [s])
    both = sampled("class_subject")
    of_a = [1 / 6 / 6] * 6 + [1 / 6 / 2] * 2 + [1 / 6]
    np.testing.assert_allclose(both, [*of_a, 1 / 8, 1 / 8, 1 / 4])
    np.testing.assert_allclose([by_class.sum(), by_subject.sum(), both.sum()], 1)
