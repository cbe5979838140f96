import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.dtypes import StringDType

from effboost import ImageSequence
from effboost._utils.class_names import are_classes
from effboost._utils.columns import check_groups, check_label_column, is_missing
from effboost._validation import check_labels
from effboost.exceptions import SplitError, UnsupportedInputError
from effboost.model_selection import (
    aggregate_by_subject,
    check_leakage,
    one_image_per_subject,
    subject_folds,
    subject_split,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)

# Six values of which the one at position 2 is missing.
WITH_MISSING = {
    "list with None": ["a", "b", None, "a", "b", "a"],
    "list with NaN": ["a", "b", np.nan, "a", "b", "a"],
    "list of floats": [0.0, 1.0, np.nan, 0.0, 1.0, 0.0],
    "tuple": ("a", "b", None, "a", "b", "a"),
    "object array": np.array(["a", "b", None, "a", "b", "a"], dtype=object),
    "float array": np.array([0, 1, np.nan, 0, 1, 0]),
    "str array made from NaN": np.array(["a", "b", np.nan, "a", "b", "a"]),
    "pandas astype(str)": pd.Series(["a", "b", None, "a", "b", "a"], dtype=object).astype(str),
    "empty string": ["a", "b", "", "a", "b", "a"],
    "blank string": np.array(["a", "b", "  ", "a", "b", "a"]),
    "StringDType NaN": np.array(["a", "b", np.nan, "a", "b", "a"], StringDType(na_object=np.nan)),
    "StringDType None": np.array(["a", "b", None, "a", "b", "a"], StringDType(na_object=None)),
    "StringDType empty": np.array(["a", "b", "", "a", "b", "a"], StringDType()),
    "pandas object": pd.Series(["a", "b", None, "a", "b", "a"], dtype=object, index=range(9, 15)),
    "pandas string": pd.Series(["a", "b", None, "a", "b", "a"], dtype="string"),
    "pandas str": pd.Series(["a", "b", None, "a", "b", "a"], dtype="str"),
    "pandas category": pd.Series(["a", "b", None, "a", "b", "a"], dtype="category"),
    "pandas Int64": pd.Series([0, 1, None, 0, 1, 0], dtype="Int64"),
    "pandas boolean": pd.Series([True, False, None, True, False, True], dtype="boolean"),
    "pandas datetime": pd.Series(pd.to_datetime(["2020", "2021", None] * 2)).iloc[:6],
    "pandas index": pd.Index(["a", "b", None, "a", "b", "a"]),
    "polars String": pl.Series(["a", "b", None, "a", "b", "a"]),
    "polars Int64": pl.Series([0, 1, None, 0, 1, 0]),
    "polars Categorical": pl.Series(["a", "b", None, "a", "b", "a"], dtype=pl.Categorical),
    "NaT": np.array(["2020", "2021", "NaT", "2020", "2021", "2020"], dtype="datetime64[Y]"),
    "durations": np.array([1, 2, "NaT", 1, 2, 1], dtype="timedelta64[D]"),
}

TAKERS_OF_GROUPS = {
    "check_groups": check_groups,
    "ImageSequence": lambda groups: ImageSequence(PIXELS, groups=groups),
    "subject_folds": lambda groups: subject_folds([0, 1] * 3, groups, 2),
    "subject_split": lambda groups: subject_split([0, 1] * 3, groups),
    "aggregate_by_subject": lambda groups: aggregate_by_subject(np.full((6, 2), 0.5), groups),
    "one_image_per_subject": one_image_per_subject,
    "check_leakage": lambda groups: check_leakage(
        PIXELS, PIXELS[:0:-1] // 2, groups_train=groups, groups_test=["x"] * 5
    ),
}

TAKERS_OF_LABELS = {
    "check_labels": check_labels,
    "subject_folds": lambda y: subject_folds(y, [0, 1, 2, 3, 4, 5], 2),
    "subject_split": lambda y: subject_split(y, [0, 1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize("taker", TAKERS_OF_GROUPS)
@pytest.mark.parametrize("kind", WITH_MISSING)
def test_missing_group_raises_with_position(kind, taker):
    with pytest.raises(SplitError, match=r"missing for \d images, the first at position 2"):
        TAKERS_OF_GROUPS[taker](WITH_MISSING[kind])


@pytest.mark.parametrize("taker", TAKERS_OF_LABELS)
@pytest.mark.parametrize("kind", WITH_MISSING)
def test_missing_label_raises_with_position(kind, taker):
    with pytest.raises(UnsupportedInputError, match="the label at position 2 is missing"):
        TAKERS_OF_LABELS[taker](WITH_MISSING[kind])


@pytest.mark.parametrize("taker", TAKERS_OF_GROUPS)
@pytest.mark.parametrize("form", [list, lambda x: np.array(x, dtype=object), pd.Series])
def test_groups_that_mix_strings_and_integers_raise_with_position(taker, form):
    with pytest.raises(SplitError, match=r"groups mixes .* 'S1' at position 0, 2 at position 3"):
        TAKERS_OF_GROUPS[taker](form(["S1", "S2", "S3", 2, 1, 2]))


@pytest.mark.parametrize("form", [list, lambda x: np.array(x, dtype=object), pd.Series, tuple])
def test_labels_that_mix_strings_and_integers_raise_with_position(form):
    with pytest.raises(UnsupportedInputError, match=r"y mixes strings .* 1 at position 1; convert"):
        check_labels(form(["a", 1, "b", 2]))


@pytest.mark.parametrize(
    "y",
    [
        np.array(["2020", "2021"] * 2, dtype="datetime64[Y]"),
        pd.Series(pd.to_datetime(["2020", "2021"] * 2)),
        pl.Series(["2020-01-01", "2021-01-01"] * 2).str.to_date(),
        np.array([1, 2] * 2, dtype="timedelta64[D]"),
    ],
    ids=["numpy", "pandas", "polars", "duration"],
)
def test_dates_as_labels_raise(y):
    with pytest.raises(UnsupportedInputError, match=r"y has dates or durations \(.*astype\(str\)"):
        check_labels(y)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([3, 7], "int"), ([True, False], "bool"), ([pd.Timestamp("2020")] * 2, "Timestamp")],
)
def test_object_labels_that_are_not_strings_raise(values, kind):
    """They can be fitted, but scikit-learn's metrics refuse them when the model is scored."""
    with pytest.raises(UnsupportedInputError, match=f"array of objects of type {kind}; convert"):
        check_labels(pd.Series(values * 2, dtype=object))


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (["a", "b"], "U"),
        ([3, 7], "i"),
        ([True, False], "b"),
        (np.array(["a", "b"], dtype=object), "O"),
        (np.array(["a", "b"], dtype=StringDType()), "U"),
        (pd.Series(["a", "b"], dtype="category"), "O"),
        (pd.Series([3, 7], dtype="Int64"), "i"),
        (pl.Series(["a", "b"]), "O"),
        (pl.Series([3, 7]), "i"),
        (np.array([0.0, 1.0]), "f"),
        # A class may be called like this; only missing values as text are refused.
        (["none", "NA"], "U"),
    ],
    ids=str,
)
def test_complete_labels_keep_their_values(y, expected):
    labels = check_label_column(y)
    assert labels.dtype.kind == expected
    assert labels.tolist() == list(y)
    assert check_groups(y).tolist() == list(y)


def test_column_vectors_are_flattened():
    assert check_groups(np.array([["a"], ["b"]])).tolist() == ["a", "b"]
    assert check_groups([["a"], ["b"]]).tolist() == ["a", "b"]
    with pytest.raises(ValueError, match=r"should be a 1d array, got an array of shape \(2, 2\)"):
        check_groups(np.array([["a", "b"], ["c", "d"]]))


def test_is_missing_of_single_values():
    missing = [None, np.nan, float("nan"), np.datetime64("NaT"), pd.NaT, pd.NA]
    assert all(map(is_missing, missing))
    assert not any(map(is_missing, ["", "nan", 0, False, np.array([1, 2]), np.inf]))


@pytest.mark.parametrize("convert", [list, np.array, lambda names: np.array(names, dtype=object)])
def test_overlong_names_are_refused(convert):
    names = convert(["ALL", "H" * 100_000, "HEM"])
    message = "has a name of 100,000 characters at position 1: shorten it"
    with pytest.raises(UnsupportedInputError, match=f"y {message}"):
        check_label_column(names)
    with pytest.raises(SplitError, match=f"groups {message}"):
        check_groups(names)
    assert len(check_label_column(convert(["ALL", "H" * 1000]))) == 2


@pytest.mark.parametrize(
    ("values", "right"),
    [
        (["ALL", "HEM"], True),
        ([1, 3], True),
        ([False, True], True),
        ([0.5, 2.0], True),
        (["HEM", "ALL"], False),
        (["ALL", "ALL"], False),
        (["ALL"], False),
        (["", "ALL"], False),
        (["ALL", "nan"], False),
        (["ALL", 3], False),
        ([1.0, float("nan")], False),
        (["ALL", "H" * 1001], False),
        (["ALL", None], False),
        ("ALL", False),
        (None, False),
    ],
)
def test_classes_of_files_are_sorted_and_each_once(values, right):
    assert are_classes(values) == right
