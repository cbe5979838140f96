import gc
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import HybridClassifier
from effboost._extraction.row_cache import map_temporary_file
from effboost._heads import out_of_core
from effboost._heads.out_of_core import keeps_features_on_disk, trains_from_file
from effboost.exceptions import UnsupportedInputError


@pytest.fixture
def rows():
    """Features of which five of thirty tell two classes apart, mostly."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3000, 30)).astype(np.float32)
    target = (features[:, :5].sum(axis=1) + rng.normal(size=3000) > 0).astype(np.int64)
    return features, target


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(out_of_core, "_BLOCK_BYTES", 4 * 30 * 700)


def as_file(features, folder):
    mapped = np.memmap(folder / "features", np.float32, "w+", shape=features.shape)
    mapped[:] = features
    return mapped


def test_booster_learns_the_same_from_a_file(rows, small_blocks, tmp_path, monkeypatch):
    features, target = rows
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    weight = np.where(np.arange(3000) % 3, 1.0, 2.0)
    settings = {"n_estimators": 30, "n_jobs": 1, "random_state": 0}
    scores = []
    for mapped in (False, True):
        booster = XGBClassifier(**settings)
        X = features[:2000]
        if mapped:
            X = as_file(X, tmp_path)
            with trains_from_file(booster):
                booster.fit(
                    X,
                    target[:2000],
                    sample_weight=weight[:2000],
                    eval_set=[(X, target[:2000])],
                    verbose=False,
                )
        else:
            booster.fit(
                X,
                target[:2000],
                sample_weight=weight[:2000],
                eval_set=[(X, target[:2000])],
                verbose=False,
            )
        scores.append(booster.score(features[2000:], target[2000:]))
        assert booster.evals_result()["validation_0"]["logloss"][-1] < 0.25
        assert "_create_dmatrix" not in vars(booster)
    assert min(scores) > 0.75
    assert abs(scores[0] - scores[1]) < 0.02
    gc.collect()
    assert not list(tmp_path.glob("effboost-*"))


def test_hybrid_trains_from_disk_as_from_memory(pixels, three_classes, monkeypatch):
    asked = []

    def recorded(shape, dtype):
        asked.append(shape)
        return map_temporary_file(shape, dtype)

    monkeypatch.setattr("effboost._featurizer_base.map_temporary_file", recorded)
    head = XGBClassifier(n_estimators=5, n_jobs=1)
    weight = np.where(np.arange(24) % 2, 1.0, 3.0)
    found = {}
    for storage in ("memory", "disk"):
        clf = HybridClassifier(
            tiny_featurizer(),
            head,
            feature_storage=storage,
            validation_fraction=0.25,
            calibration="temperature",
            random_state=0,
        ).fit(pixels, three_classes, sample_weight=weight)
        found[storage] = clf
    assert asked == [(18, 8), (6, 8)]
    memory, disk = found["memory"], found["disk"]
    np.testing.assert_array_equal(disk.feature_means_, memory.feature_means_)
    assert disk.evals_result_.keys() == memory.evals_result_.keys() == {"train", "validation"}
    np.testing.assert_allclose(disk.predict_proba(pixels), memory.predict_proba(pixels), atol=0.02)


def test_rows_of_views_are_kept_on_disk(pixels, three_classes):
    clf = HybridClassifier(
        tiny_featurizer(views="dihedral"),
        XGBClassifier(n_estimators=2, n_jobs=1),
        view_averaging="probabilities",
        feature_storage="disk",
        random_state=0,
    ).fit(pixels, three_classes)
    assert clf.predict_proba(pixels).shape == (24, 3)


@pytest.mark.parametrize(
    ("head", "storage", "available", "expected"),
    [
        (XGBClassifier(), "auto", 15_999, True),
        (XGBClassifier(), "auto", 16_000, False),
        (XGBClassifier(), "auto", None, False),
        (XGBClassifier(), "memory", 0, False),
        (XGBClassifier(), "disk", 10**9, True),
        (XGBClassifier(tree_method="exact"), "auto", 0, False),
        (XGBClassifier(booster="gblinear"), "auto", 0, False),
        (LogisticRegression(), "auto", 0, False),
    ],
)
@pytest.mark.filterwarnings("ignore:training on")
def test_storage_is_chosen_by_size_and_head(head, storage, available, expected, monkeypatch):
    monkeypatch.setattr(out_of_core, "available_memory", lambda: available)
    assert keeps_features_on_disk(storage, (100, 10), head) == expected


def test_the_choice_of_the_disk_is_said(pixels, three_classes, monkeypatch):
    monkeypatch.setattr(out_of_core, "available_memory", lambda: 3000)
    clf = HybridClassifier(tiny_featurizer(), XGBClassifier(n_estimators=2, n_jobs=1))
    with pytest.warns(UserWarning, match=r"training on 24 x 8 features .* are kept on disk"):
        clf.fit(pixels, three_classes)


def test_other_heads_refuse_the_disk(pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer(), LogisticRegression(), feature_storage="disk")
    with pytest.raises(UnsupportedInputError, match="LogisticRegression reads all features into"):
        clf.fit(pixels, three_classes)


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from xgboost import XGBClassifier
from effboost._extraction.row_cache import map_temporary_file
from effboost._heads.out_of_core import trains_from_file

shape = 800_000, 64
features = map_temporary_file(shape, np.float32)
rng = np.random.default_rng(0)
target = np.arange(shape[0]) % 2
for start in range(0, shape[0], 20_000):
    block = rng.normal(size=(20_000, shape[1])).astype(np.float32)
    block[:, 0] += 2 * target[start : start + 20_000]
    features[start : start + 20_000] = block
booster = XGBClassifier(n_estimators=2, max_depth=4, n_jobs=1)
booster.fit(block[:1000], target[:1000])  # libraries and threads are loaded
used = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) * 1024
limit = used + features.nbytes // 3
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.array(features)
    sys.exit("the limit does not hold")
except MemoryError:
    pass
with trains_from_file(booster):
    booster.fit(features, target)
print(booster.score(features[:1000], target[:1000]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's RLIMIT_DATA")
def test_it_trains_with_a_third_of_the_memory_of_the_features():
    result = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > 0.75
