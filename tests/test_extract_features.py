import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from common.networks import tiny_featurizer
from effboost import HybridClassifier, extract_features, iter_features
from effboost.exceptions import (
    DroppedRowsWarning,
    ImageDecodeError,
    ImageNotFoundError,
    UnsupportedInputError,
)

BROKEN = [0, 5, 6, 7, 12, 23]


@pytest.fixture
def featurizer(pixels):
    return tiny_featurizer().fit(pixels)


@pytest.fixture
def broken_paths(paths):
    """24 images of which six cannot be read: damaged, empty and missing ones."""
    for i in BROKEN:
        os.truncate(paths[i], 30 * (i % 3))
    paths[12] = "gone.png"
    return paths


def test_it_returns_what_transform_returns(featurizer, paths):
    table = extract_features(featurizer, paths)
    np.testing.assert_array_equal(table.features, featurizer.transform(paths))
    np.testing.assert_array_equal(table.positions, range(24))
    assert len(table.rejects) == 0
    assert repr(table) == "<FeatureTable of 24 x 8, 0 rejected>"


@pytest.mark.parametrize("cached", [False, True])
def test_skip_returns_the_others_to_the_bit_and_the_table(
    featurizer, broken_paths, pixels, tmp_path, cached
):
    expected = featurizer.transform(pixels)
    if cached:
        featurizer.set_params(cache=tmp_path / "cache")
    for _ in range(2):
        with pytest.warns(DroppedRowsWarning, match=r"6 of 24 images .* no features .*cell_00"):
            table = extract_features(featurizer, broken_paths, on_error="skip")
        good = [i for i in range(24) if i not in BROKEN]
        assert table.positions.tolist() == good
        np.testing.assert_array_equal(table.features, expected[good])
        assert [row.position for row in table.rejects] == BROKEN
        assert [row.path for row in table.rejects] == [broken_paths[i] for i in BROKEN]
        assert "0 bytes" in table.rejects[0].reason
        assert "no such file" in table.rejects[4].reason
        assert np.isfinite(table.features).all()


@pytest.mark.parametrize("cached", [False, True])
def test_raise_names_the_first(featurizer, broken_paths, tmp_path, cached):
    if cached:
        featurizer.set_params(cache=tmp_path / "cache")
    with pytest.raises(ImageDecodeError, match=r"position 4, .*cell_05"):
        extract_features(featurizer, broken_paths[1:])


def test_copies_of_a_damaged_image_are_all_rejected(featurizer, paths, tmp_path):
    for i in (3, 4, 20):
        Path(paths[i]).write_bytes(b"no picture")
    featurizer.set_params(cache=tmp_path / "cache")
    with pytest.warns(DroppedRowsWarning):
        table = extract_features(featurizer, paths, on_error="skip")
    assert [(row.position, row.path) for row in table.rejects] == [
        (i, paths[i]) for i in (3, 4, 20)
    ]


@pytest.mark.parametrize("block_size", [1, 6, 7, 100])
def test_blocks_have_positions_in_the_whole(featurizer, broken_paths, block_size):
    blocks = list(iter_features(featurizer, broken_paths, on_error="skip", block_size=block_size))
    with pytest.warns(DroppedRowsWarning):
        whole = extract_features(featurizer, broken_paths, on_error="skip")
    np.testing.assert_array_equal(np.concatenate([b.features for b in blocks]), whole.features)
    np.testing.assert_array_equal(np.concatenate([b.positions for b in blocks]), whole.positions)
    assert [row for b in blocks for row in b.rejects] == list(whole.rejects)


def test_error_of_a_block_names_the_position_in_the_whole(featurizer, paths):
    paths[20] = "gone.png"
    blocks = iter_features(featurizer, paths, block_size=8)
    assert len(next(blocks)) == len(next(blocks)) == 8
    with pytest.raises(ImageNotFoundError, match=r"image at position 20, 'gone.png'"):
        next(blocks)


def test_hybrids_lend_their_featurizer(pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer(), LogisticRegression()).fit(pixels, three_classes)
    np.testing.assert_array_equal(extract_features(clf, pixels).features, clf.transform(pixels))


def test_the_average_over_views_skips_as_well(pixels):
    featurizer = tiny_featurizer(views="dihedral").fit(pixels)
    mixed = [*pixels]
    mixed[9] = mixed[9][:3]
    with pytest.warns(DroppedRowsWarning, match="the first is position 9: is 40 x 3 pixels"):
        table = extract_features(featurizer, mixed, on_error="skip")
    np.testing.assert_array_equal(table.features, featurizer.transform(np.delete(pixels, 9, 0)))


def test_nothing_readable_is_an_empty_table(featurizer):
    with pytest.warns(DroppedRowsWarning, match="2 of 2"):
        table = extract_features(featurizer, ["gone.png", "away.png"], on_error="skip")
    assert table.features.shape == (0, 8)
    assert len(table.rejects) == 2


def test_invalid_arguments_raise_at_once(featurizer, pixels):
    with pytest.raises(ValueError, match="on_error='ignore' must be 'raise' or 'skip'"):
        extract_features(featurizer, pixels, on_error="ignore")
    with pytest.raises(ValueError, match="block_size=0 must be 1 or more"):
        iter_features(featurizer, pixels, block_size=0)
    with pytest.raises(UnsupportedInputError, match="got LogisticRegression; features come from"):
        extract_features(LogisticRegression().fit([[0], [1]], [0, 1]), pixels)
    with pytest.raises(NotFittedError):
        extract_features(tiny_featurizer(), pixels)


def test_one_percent_of_5000_is_skipped(featurizer, paths, pixels, tmp_path):
    many = [paths[i % 24] for i in range(5000)]
    bad = np.random.default_rng(0).choice(5000, 50, replace=False)
    for i in bad:
        many[i] = str(tmp_path / f"damaged_{i}.png")
        Path(many[i]).write_bytes(Path(paths[i % 24]).read_bytes()[:100])
    first = int(bad.min())
    with pytest.raises(ImageDecodeError, match=rf"position {first}, .*damaged_{first}\.png"):
        extract_features(featurizer, many)
    with pytest.warns(DroppedRowsWarning, match="50 of 5,000"):
        table = extract_features(featurizer, many, on_error="skip")
    assert len(table) == 4950
    np.testing.assert_array_equal(table.rejects.positions, np.sort(bad))
    expected = featurizer.transform(pixels)[table.positions % 24]
    np.testing.assert_array_equal(table.features, expected)
