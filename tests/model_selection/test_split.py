import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from effboost.exceptions import EffboostError, SplitError
from effboost.model_selection import SubjectSplit, subject_folds, subject_split

seeds = st.integers(0, 2**32 - 1)


@st.composite
def cohorts(draw, fewest=1, mixed=True):
    """Labels and subjects of some images, in any order.

    Each class has at least `fewest` subjects of its own; where `mixed`, further subjects carry
    images of any class.
    """
    n_classes = draw(st.integers(1, 3))
    sizes = st.lists(st.integers(1, 5), min_size=fewest, max_size=fewest + 4)
    subjects = [[label] * n for label in range(n_classes) for n in draw(sizes)]
    if mixed:
        labels = st.lists(st.integers(0, n_classes - 1), min_size=1, max_size=6)
        subjects += draw(st.lists(labels, max_size=4))
    y = np.concatenate(subjects)
    groups = np.repeat(np.arange(len(subjects)), [len(labels) for labels in subjects])
    order = np.random.default_rng(draw(seeds)).permutation(len(y))
    y, groups = y[order], groups[order]
    if draw(st.booleans()):
        y = np.array(["ALL", "HEM", "other"])[y]
    if draw(st.booleans()):
        groups = np.array([f"UID_{g}" for g in groups], dtype=draw(st.sampled_from([str, object])))
    return y, groups


def subjects_per_class(y, groups):
    return [len(np.unique(groups[y == label])) for label in np.unique(y)]


def classes_per_subject(y, groups):
    return [len(np.unique(y[groups == group])) for group in np.unique(groups)]


def refusal(cut, *args, **kwargs):
    with pytest.raises(SplitError) as caught:
        cut(*args, **kwargs)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, EffboostError)
    return str(caught.value)


def assert_equal_folds(one, other):
    assert len(one) == len(other)
    for (train, test), (other_train, other_test) in zip(one, other, strict=True):
        np.testing.assert_array_equal(train, other_train)
        np.testing.assert_array_equal(test, other_test)


def assert_proper_folds(folds, y, groups, n_splits):
    everything = np.arange(len(y))
    assert len(folds) == n_splits
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), everything)
    for train, test in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), everything)
        assert not set(groups[train]) & set(groups[test])
        assert set(y[train]) == set(y)


def assert_proper_split(split, y, groups, asked):
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(len(y)))
    for part, wanted in zip(split, asked, strict=True):
        assert part.dtype == np.intp
        assert (np.diff(part) > 0).all()
        assert set(y[part]) == (set(y) if wanted else set())
    train, validation, test = (set(groups[part]) for part in split)
    assert len(train) + len(validation) + len(test) == len(train | validation | test)


# --- folds ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n_splits=st.integers(2, 4), seed=seeds)
def test_folds_partition_images_by_subject_with_all_classes_in_training(data, n_splits, seed):
    y, groups = data.draw(cohorts(fewest=n_splits))
    folds = subject_folds(y, groups, n_splits, random_state=seed)
    assert_proper_folds(folds, y, groups, n_splits)
    assert_equal_folds(folds, subject_folds(y, groups, n_splits, random_state=seed))


@settings(max_examples=60, deadline=None)
@given(cohort=cohorts(), n_splits=st.integers(2, 4), seed=seeds)
def test_folds_of_few_subjects_are_valid_or_raise(cohort, n_splits, seed):
    y, groups = cohort
    # scikit-learn warns where a class has fewer images than there are folds.
    n_splits = min(n_splits, max(2, np.unique(y, return_counts=True)[1].min()))
    if min(subjects_per_class(y, groups)) < 2 or n_splits > len(np.unique(groups)):
        refusal(subject_folds, y, groups, n_splits, random_state=seed)
        return
    try:
        folds = subject_folds(y, groups, n_splits, random_state=seed)
    except SplitError:
        folds = None
    if folds is None:  # only subjects of several classes can make a cut impossible
        assert max(classes_per_subject(y, groups)) > 1
    else:
        assert_proper_folds(folds, y, groups, n_splits)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), n_splits=st.integers(2, 4), seed=seeds)
def test_folds_are_those_of_scikit_learn(data, n_splits, seed):
    y, groups = data.draw(cohorts(fewest=4, mixed=False))
    splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    expected = list(splitter.split(np.zeros(len(y)), y, groups))
    assert_equal_folds(subject_folds(y, groups, n_splits, random_state=seed), expected)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), seed=seeds)
def test_images_without_groups_are_their_own_subjects(data, seed):
    y, _ = data.draw(cohorts(fewest=3, mixed=False))
    folds = subject_folds(y, n_splits=3, random_state=seed)
    assert_proper_folds(folds, y, np.arange(len(y)), 3)
    assert_equal_folds(folds, subject_folds(y, np.arange(len(y)), 3, random_state=seed))


def test_random_state_may_be_seed_or_generator():
    y, groups = np.arange(24) % 2, np.arange(24)
    rng = np.random.RandomState(7)
    first, second = (subject_folds(y, groups, 3, random_state=rng) for _ in range(2))
    assert_equal_folds(first, subject_folds(y, groups, 3, random_state=7))
    assert any(
        not np.array_equal(one, other) for (_, one), (_, other) in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("cut", [subject_folds, subject_split])
@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y.astype(bool),
        lambda y: y.astype(float),
        lambda y: np.array(["ALL", "HEM"])[y],
        lambda y: np.array(["ALL", "HEM"], dtype=object)[y],
        lambda y: np.array([-7, 3])[y],
        lambda y: y.tolist(),
        lambda y: pd.Series(np.array(["ALL", "HEM"])[y], index=np.arange(36)[::-1]),
        lambda y: pd.Series(np.array(["ALL", "HEM"])[y], dtype="category"),
    ],
    ids=["bool", "float", "str", "object", "odd int", "list", "series", "categories"],
)
@pytest.mark.parametrize(
    "names",
    [
        lambda g: np.array([f"S{i:02d}" for i in g]),
        lambda g: np.array([f"S{i:02d}" for i in g], dtype=object),
        lambda g: tuple(g.tolist()),
        lambda g: g / 4 - 1,
        lambda g: pd.Series([f"S{i:02d}" for i in g], index=np.arange(36)[::-1]),
    ],
    ids=["str", "object", "tuple", "float", "series"],
)
def test_split_does_not_depend_on_names_of_labels_and_groups(cut, labels, names):
    y, groups = np.arange(36) // 3 % 2, np.arange(36) // 3
    got = cut(labels(y), names(groups), random_state=5)
    for one, other in zip(got, cut(y, groups, random_state=5), strict=True):
        for part, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, expected)


def test_groups_may_be_booleans():
    y, groups = np.array(["a", "b", "a", "b", "b"]), np.array([True, False, False, True, True])
    folds = subject_folds(y, groups, 2, random_state=0)
    assert_proper_folds(folds, y, groups, 2)


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_stratified(seed):
    y = np.repeat(np.arange(40) % 4 == 0, 3)  # a quarter of the subjects
    folds = subject_folds(y, np.repeat(np.arange(40), 3), 5, random_state=seed)
    assert [(len(test), y[test].sum()) for _, test in folds] == [(24, 6)] * 5


# --- one split -----------------------------------------------------------------------------

sizes = st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.3, 0.4])


@settings(max_examples=60, deadline=None)
@given(cohort=cohorts(fewest=3, mixed=False), test=sizes, validation=sizes, seed=seeds)
@example(cohort=(np.zeros(3), np.arange(3)), test=0.4, validation=0.4, seed=0)
def test_each_part_has_all_classes_and_own_subjects(cohort, test, validation, seed):
    y, groups = cohort
    if test == validation == 0:
        test = 0.2
    split = subject_split(y, groups, test_size=test, validation_size=validation, random_state=seed)
    assert_proper_split(split, y, groups, (True, validation, test))


@settings(max_examples=60, deadline=None)
@given(
    cohort=cohorts(),
    test=st.floats(0, 0.95),
    validation=st.floats(0, 0.95),
    seed=seeds,
)
def test_split_of_any_sizes_is_valid_or_raises(cohort, test, validation, seed):
    y, groups = cohort
    asked = {"test_size": test, "validation_size": validation}
    n_parts = 1 + (test > 0) + (validation > 0)
    if min(subjects_per_class(y, groups)) < n_parts or not 0 < test + validation < 1:
        refusal(subject_split, y, groups, **asked, random_state=seed)
        return
    try:
        split = subject_split(y, groups, **asked, random_state=seed)
    except SplitError:
        split = None
    if split is None:  # it took subjects of several classes, or large parts
        assert max(classes_per_subject(y, groups)) > 1 or test > 0.4
    else:
        assert_proper_split(split, y, groups, (True, validation, test))


@pytest.mark.parametrize(
    ("test_size", "validation_size"),
    [(0.2, 0), (0.05, 0), (0.15, 0.15), (0.3, 0.2), (0.6, 0.2), (0, 0.25), (0.9, 0), (0.33, 0.33)],
)
def test_sizes_are_exact_with_many_equal_subjects(test_size, validation_size):
    y, groups = np.repeat(np.arange(120) % 3, 4), np.repeat(np.arange(120), 4)
    split = subject_split(
        y, groups, test_size=test_size, validation_size=validation_size, random_state=0
    )
    assert len(split.test) / 480 == pytest.approx(test_size, abs=0.026)
    assert len(split.validation) / 480 == pytest.approx(validation_size, abs=0.026)
    for part in split:
        shares = np.bincount(y[part], minlength=3)
        assert np.ptp(shares) <= 8  # two subjects


def test_sizes_are_approximate_with_few_subjects():
    y, groups = np.repeat([0, 1], 8), np.arange(16) // 2  # four subjects for each class
    split = subject_split(y, groups, test_size=0.01, random_state=0)
    assert (len(split.train), len(split.test)) == (12, 4)


def test_part_of_size_0_is_empty():
    y, groups = np.arange(20) % 2, np.arange(20)
    split = subject_split(y, groups, random_state=0)
    assert isinstance(split, SubjectSplit)
    assert split._fields == ("train", "validation", "test")
    assert [len(part) for part in split] == [16, 0, 4]
    split = subject_split(y, groups, test_size=0, validation_size=0.2, random_state=0)
    assert [len(part) for part in split] == [16, 4, 0]


def test_without_groups_each_image_is_its_own_subject():
    y = np.arange(30) % 3
    one = subject_split(y, validation_size=0.2, random_state=1)
    other = subject_split(y, np.arange(30), validation_size=0.2, random_state=1)
    for part, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(part, expected)


def test_split_depends_on_the_seed():
    y, groups = np.repeat(np.arange(30) % 2, 2), np.repeat(np.arange(30), 2)
    tests = [
        subject_split(y, groups, validation_size=0.1, random_state=seed).test.tolist()
        for seed in (0, 0, np.random.RandomState(0), 1, 2, 3)
    ]
    assert tests[0] == tests[1] == tests[2]
    assert len({tuple(test) for test in tests}) == 4


# --- what cannot be cut --------------------------------------------------------------------


@pytest.mark.parametrize("n_splits", [-1, 0, 1, 5])
def test_more_folds_than_subjects_raise(n_splits):
    message = refusal(subject_folds, ["a", "b"] * 4, [1, 2, 3, 4] * 2, n_splits)
    assert message == f"{n_splits} folds (n_splits), but there are 4 subjects: use 2 to 4"


def test_a_single_subject_cannot_be_split():
    message = refusal(subject_folds, ["a", "b"] * 4, [1] * 8, 2)
    assert message == "all images are of one subject: a split by subject needs two or more"


def test_more_folds_than_images_of_any_class_raise():
    message = refusal(subject_folds, list("aabbcc"), None, 3)
    assert message == "3 folds (n_splits), but no class has more than 2 images"


@pytest.mark.parametrize(("rare", "shown"), [("rare", "'rare'"), (7, "7"), (True, "True")])
def test_class_with_one_subject_raises(rare, shown):
    common = "common" if rare == "rare" else type(rare)()
    y = np.array([common] * 6 + [rare] * 3, dtype=object if isinstance(rare, str) else None)
    message = refusal(subject_folds, y, [1, 1, 2, 2, 3, 3, 4, 4, 4], 2)
    assert message == (
        f"class {shown} has 1 subject, but a split into 2 parts by subject needs 2: collect more "
        "subjects or drop the class"
    )


# Each subject lacks one class, so that no part of one subject holds them all.
INTERLOCKED = (list("abacbc" * 2), [0, 0, 1, 1, 2, 2] * 2)


def test_folds_without_a_class_in_training_raise():
    message = refusal(subject_folds, *INTERLOCKED, 2, random_state=0)
    assert message == (
        "no split into 2 folds by subject keeps each class in each training part: use more folds, "
        "or drop the rarest class"
    )
    assert len(subject_folds(*INTERLOCKED, 3, random_state=0)) == 3


def test_split_without_a_class_in_a_part_raises():
    message = refusal(subject_split, *INTERLOCKED, random_state=0)
    assert message == (
        "no split by subject was found that keeps each class in each part: use other sizes, or "
        "drop the rarest class"
    )


@pytest.mark.parametrize(
    ("sizes", "needed"),
    [({}, 2), ({"validation_size": 0.2}, 3), ({"test_size": 0, "validation_size": 0.2}, 2)],
)
def test_class_with_fewer_subjects_than_parts_raises(sizes, needed):
    y = ["common"] * 8 + ["rare"] * 2 * (needed - 1)
    message = refusal(subject_split, y, np.arange(len(y)) // 2, **sizes)
    plural = "s" * (needed > 2)
    assert message == (
        f"class 'rare' has {needed - 1} subject{plural}, but a split into {needed} parts by "
        f"subject needs {needed}: collect more subjects or drop the class"
    )


@pytest.mark.parametrize(
    ("test_size", "validation_size"),
    [(0, 0), (-0.1, 0), (0.5, -0.1), (1, 0), (0.5, 0.5), (0.8, 0.7), (0, 1.0), (float("nan"), 0)],
)
def test_invalid_sizes_raise(test_size, validation_size):
    message = refusal(
        subject_split, [0, 1] * 9, test_size=test_size, validation_size=validation_size
    )
    assert message == (
        f"test_size={test_size} and validation_size={validation_size} must be fractions of the "
        "images, 0 or more, with a sum above 0 and below 1"
    )


@pytest.mark.parametrize("cut", [subject_folds, subject_split])
def test_groups_of_wrong_length_raise(cut):
    message = refusal(cut, [0, 1] * 6, np.arange(11))
    assert message == (
        "groups has 11 values, but there are 12 images: pass the subject of each image"
    )


@pytest.mark.parametrize("cut", [subject_folds, subject_split])
@pytest.mark.parametrize(
    ("groups", "n_missing", "first"),
    [
        (np.array([0, 1, np.nan, 3, np.nan, 5, 6, 7]), 2, 2),
        (np.array(["a", float("nan"), *"bcdefg"], dtype=object), 1, 1),
        (["a", "b", "c", None, None, None, "d", "e"], 3, 3),
        (["", *"abcdefg"], 1, 0),
        ([*"abcdefg", ""], 1, 7),
        (pd.Series([*"abcde", None, "f", ""]), 2, 5),
        (np.array(["2020-01-01"] * 4 + ["NaT"] * 4, dtype="datetime64[D]"), 4, 4),
    ],
    ids=["nan", "nan object", "none", "empty first", "empty last", "series", "not a time"],
)
def test_missing_subject_raises_with_position(cut, groups, n_missing, first):
    message = refusal(cut, [0, 1] * 4, groups)
    assert message == (
        f"groups is missing for {n_missing} images, the first at position {first}: name their "
        "subjects, or leave them out"
    )


def test_continuous_labels_raise():
    with pytest.raises(ValueError, match="continuous"):
        subject_folds(np.repeat([0.5, 1.5], 4), np.arange(8), 2)
