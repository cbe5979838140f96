import numpy as np
import pytest

from effboost import ImageSequence
from effboost._labels import Labelled, check_validation
from effboost.exceptions import LeakageError, UnsupportedInputError


@pytest.fixture
def images(pixels, subjects):
    return ImageSequence(pixels, groups=subjects)


def test_groups_default_to_those_of_the_images(images, three_classes, subjects):
    rows = Labelled.check(images, three_classes)
    assert np.array_equal(rows.groups, subjects)
    other = Labelled.check(images, three_classes, groups=np.arange(24))
    assert np.array_equal(other.groups, np.arange(24))
    assert Labelled.check(ImageSequence(["a"] * 24), three_classes).groups is None


def test_a_part_takes_everything_along(images, three_classes, subjects):
    weight = np.arange(1.0, 25.0)
    part = Labelled.check(images, three_classes, sample_weight=weight).take(np.array([5, 2]))
    assert part.labels.tolist() == three_classes[[5, 2]].tolist()
    assert part.groups.tolist() == subjects[[5, 2]].tolist()
    assert part.weight.tolist() == [6.0, 3.0]
    assert np.array_equal(part.images[0], images[5])


def test_labels_are_encoded_by_their_place_among_the_classes(images, three_classes):
    rows = Labelled.check(images, three_classes)
    classes = rows.classes()
    assert np.array_equal(classes[rows.encode(classes)], three_classes)
    assert rows.encode(classes).dtype == np.int64


def test_cutting_off_keeps_subjects_whole_and_classes_on_both_sides(images, three_classes):
    groups = np.array([f"S{i % 12}" for i in range(24)])
    rows = Labelled.check(images, three_classes, groups=groups)
    left, cut = rows.cut_off(0.25, seed=0)
    assert not set(left.groups) & set(cut.groups)
    assert len(left.labels) + len(cut.labels) == 24
    assert set(left.labels) == set(cut.labels) == set(three_classes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": ["a"] * 23}, "24 images, but y has 23"),
        ({"sample_weight": [1.0] * 3}, "sample_weight has 3"),
        ({"sample_weight": [np.nan] * 24}, "must be finite"),
        ({"y": np.linspace(0, 1, 24)}, "Unknown label type"),
    ],
)
def test_what_does_not_fit_is_named(images, three_classes, arguments, message):
    y = arguments.pop("y", three_classes)
    with pytest.raises(ValueError, match=message):
        Labelled.check(images, y, **arguments)


def test_validation_rows_are_checked_against_the_training_rows(images, three_classes):
    train = Labelled.check(images[:12], three_classes[:12])

    def take(X, *, reset):
        assert reset is False
        return X

    assert check_validation(train, take, None, None, None) is None
    found = check_validation(train, take, images[12:], three_classes[12:], None)
    assert len(found.labels) == 12
    with pytest.raises(LeakageError, match="'S0'"):
        check_validation(train, take, images[:3], three_classes[:3], None)
    with pytest.raises(UnsupportedInputError, match="y_val holds class 'new'"):
        check_validation(train, take, images[12:], ["new"] * 12, None)
    with pytest.raises(UnsupportedInputError, match="belong together"):
        check_validation(train, take, None, three_classes, None)
