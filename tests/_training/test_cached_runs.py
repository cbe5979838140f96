import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

import effboost._training.cached_runs
from common.networks import TinyNet, tiny_featurizer
from effboost import Augmentation, Cache, HybridClassifier
from effboost.runtime import TorchRuntime

BRIEF = {"fine_tune": True, "max_epochs": 2, "batch_size": 8}


@pytest.fixture
def work(monkeypatch):
    """Counts trainings and the images that went through a network."""
    done = {"trainings": 0, "batches": []}
    fine_tune, run = effboost._training.cached_runs.fine_tune, TorchRuntime.run

    def counted_fine_tune(*args, **kwargs):
        done["trainings"] += 1
        return fine_tune(*args, **kwargs)

    def counted_run(self, pixels):
        done["batches"].append(pixels.copy())
        return run(self, pixels)

    monkeypatch.setattr(effboost._training.cached_runs, "fine_tune", counted_fine_tune)
    monkeypatch.setattr(TorchRuntime, "run", counted_run)
    return done


def distinct_images(work):
    """Count pictures, the rows that fill up a batch left out, and say whether any came twice."""
    pictures = [picture.tobytes() for batch in work["batches"] for picture in batch]
    return len(set(pictures)), len(pictures)


def test_cached_features_equal_computed_ones_to_the_bit(paths, tmp_path, work):
    expected = tiny_featurizer().fit(paths).transform(paths)
    featurizer = tiny_featurizer(cache=tmp_path / "cache").fit(paths)
    work["batches"].clear()
    np.testing.assert_array_equal(featurizer.transform(paths[:11]), expected[:11])
    np.testing.assert_array_equal(featurizer.transform(paths), expected)
    assert len(work["batches"]) == 2 + 2  # 11 and 13 images, in batches of eight
    again = tiny_featurizer(cache=str(tmp_path / "cache")).fit(paths)
    np.testing.assert_array_equal(again.transform(paths[::-1]), expected[::-1])
    assert len(work["batches"]) == 4


def test_copies_under_other_names_are_computed_once(paths, tmp_path, work):
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(paths[0]).read_bytes())
    featurizer = tiny_featurizer(cache=tmp_path / "cache").fit(paths)
    first, second = featurizer.transform([paths[0], str(copy)])
    np.testing.assert_array_equal(first, second)
    assert len(Cache(tmp_path / "cache")) == 1


def test_an_image_that_was_edited_in_place_is_computed_anew(paths, tmp_path):
    featurizer = tiny_featurizer(cache=tmp_path / "cache").fit(paths)
    before = featurizer.transform(paths)
    stat = Path(paths[3]).stat()
    Image.new("RGB", (40, 40), "red").save(paths[3])
    os.utime(paths[3], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = featurizer.transform(paths)
    assert not np.array_equal(before[3], after[3])
    np.testing.assert_array_equal(np.delete(before, 3, 0), np.delete(after, 3, 0))
    np.testing.assert_array_equal(after, tiny_featurizer().fit(paths).transform(paths))


class Doubled(TinyNet):
    """The same parts and weights, put together otherwise."""

    __qualname__ = "TinyNet"

    def forward(self, x):
        return super().forward(x) * 2


Doubled.__name__ = "TinyNet"


@pytest.mark.parametrize(
    "change",
    [
        {"random_state": 1},
        {"image_size": 32},
        {"crop_size": 30},
        {"normalize": "imagenet"},
        {"features": "logits"},
        {"backbone": Doubled, "features": "logits"},
    ],
    ids=str,
)
def test_other_settings_find_nothing_of_these(pixels, tmp_path, change):
    cache = tmp_path / "cache"
    for base in ({}, {"features": "logits"}):
        tiny_featurizer(cache=cache, **base).fit(pixels).transform(pixels)
    got = tiny_featurizer(cache=cache, **change).fit(pixels).transform(pixels)
    np.testing.assert_array_equal(got, tiny_featurizer(**change).fit(pixels).transform(pixels))


def test_an_unreadable_image_is_named_and_leaves_the_others_cached(paths, tmp_path):
    Path(paths[20]).write_bytes(b"no picture")
    featurizer = tiny_featurizer(cache=tmp_path / "cache").fit(paths)
    with pytest.raises(OSError, match=r"position 20.*cell_20"):
        featurizer.transform(paths)
    assert featurizer.transform(paths[:20]).shape == (20, 8)


def test_weights_that_change_in_a_file_are_other_features(pixels, tmp_path):
    file = tmp_path / "weights.pth"
    cache = tmp_path / "cache"
    features = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(TinyNet().state_dict(), file)
        features.append(tiny_featurizer(weights=file, cache=cache).fit(pixels).transform(pixels))
    assert not np.allclose(*features)


def test_a_search_over_the_head_extracts_each_image_once(
    pixels, three_classes, subjects, tmp_path, work
):
    clf = HybridClassifier(tiny_featurizer(cache=tmp_path / "cache"), random_state=0)
    search = GridSearchCV(
        clf,
        {"classifier__max_depth": [1, 2, 3], "classifier__n_estimators": [2, 3]},
        cv=StratifiedGroupKFold(3),
    )
    search.fit(pixels, three_classes, groups=subjects)
    # Its features, and the measures of size, exposure and blur; for each fold and the refit, the
    # distances of features and of colours.
    assert len(Cache(tmp_path / "cache")) == 2 * 24 + (3 + 1) * 2
    # 16 images of the first fold's training part, its 8 test images, and nothing after them.
    assert len(work["batches"]) == 3


def test_a_search_over_the_head_tunes_once_for_each_fold(
    pixels, three_classes, subjects, tmp_path, work
):
    featurizer = tiny_featurizer(cache=tmp_path / "cache", random_state=None, **BRIEF)
    search = GridSearchCV(
        HybridClassifier(featurizer, random_state=0),
        {"classifier__max_depth": [1, 2, 3], "featurizer__training__lr": [1e-3, 1e-2]},
        cv=StratifiedGroupKFold(3),
    )
    search.fit(pixels, three_classes, groups=subjects)
    folds_and_refit, rates = 3, 2
    assert work["trainings"] == folds_and_refit * rates + 1
    assert len(work["batches"]) == (folds_and_refit * rates + 1) * 3


def test_a_tuned_network_comes_back_to_the_bit_with_its_history(
    pixels, three_classes, tmp_path, work
):
    settings = BRIEF | {"cache": tmp_path / "cache", "trainable": 1}
    first, second, fresh = (
        tiny_featurizer(**(settings | change)).fit(pixels, three_classes)
        for change in ({}, {}, {"cache": None})
    )
    assert work["trainings"] == 2
    assert second.history_ == first.history_
    assert [e["train_loss"] for e in fresh.history_] == [e["train_loss"] for e in first.history_]
    for other in (second, fresh):
        np.testing.assert_array_equal(other.transform(pixels), first.transform(pixels))
        assert torch.equal(other.head_.weight, first.head_.weight)
        assert not other.module_.training
        assert all(p.requires_grad for p in other.module_.parameters())


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 2e-3},
        {"max_epochs": 3},
        {"batch_size": 9},
        {"optimizer": "adam"},
        {"class_weight": {"blast": 2.0}},
        {"augmentation": None},
        {"minority_augmentation": Augmentation(n_views=2)},
        {"trainable": "head"},
        {"freeze_batch_norm": True},
        {"early_stopping": 1, "validation_fraction": 0.3},
        {"random_state": 1},
        {"image_size": 20},
        {"precision": "mixed"},
        {"schedule": "cosine"},
        {"warmup_fraction": 0.5},
        {"weight_decay": 0.1},
        {"label_smoothing": 0.1},
        {"focal_gamma": 2},
        {"mixup_alpha": 0.2},
        {"cutmix_alpha": 1},
        {"sampling": "class"},
        {"weight_average": "ema"},
        {"weight_average": "ema", "ema_decay": 0.5},
        {"weight_average": "swa", "swa_start": 0.1},
        {"unfreezing_epochs": 1},
    ],
    ids=str,
)
def test_any_other_training_is_trained(pixels, three_classes, tmp_path, work, change):
    settings = BRIEF | {"cache": tmp_path / "cache"}
    tiny_featurizer(**settings).fit(pixels, three_classes)
    tiny_featurizer(**(settings | change)).fit(pixels, three_classes)
    assert work["trainings"] == 2


def test_other_data_is_trained_on(pixels, three_classes, tmp_path, work):
    settings = BRIEF | {"cache": tmp_path / "cache"}
    tiny_featurizer(**settings).fit(pixels, three_classes)
    tiny_featurizer(**settings).fit(pixels, three_classes[::-1])
    tiny_featurizer(**settings).fit(pixels[::-1], three_classes)
    tiny_featurizer(**settings).fit(pixels, three_classes, sample_weight=np.arange(1, 25))
    tiny_featurizer(**settings).fit(
        pixels, three_classes, X_val=pixels[:6], y_val=three_classes[:6]
    )
    assert work["trainings"] == 5


def test_subjects_are_part_of_the_key_if_they_are_sampled(
    pixels, three_classes, subjects, tmp_path, work
):
    settings = BRIEF | {"cache": tmp_path / "cache", "sampling": "subject"}
    whole = np.array([f"S{i // 6}" for i in range(24)])  # each as large: the same chances
    uneven = np.array(["A"] * 20 + ["B"] * 4)
    for groups in (subjects, whole, uneven):
        tiny_featurizer(**settings).fit(pixels, three_classes, groups=groups)
    assert work["trainings"] == 2


def test_a_network_tuned_by_a_recipe_comes_back_to_the_bit(pixels, three_classes, tmp_path, work):
    recipe = {"schedule": "cosine", "mixup_alpha": 0.2, "weight_average": "ema"}
    settings = BRIEF | {"cache": tmp_path / "cache"} | recipe
    first, second = (tiny_featurizer(**settings).fit(pixels, three_classes) for _ in range(2))
    assert work["trainings"] == 1
    assert second.history_ == first.history_
    np.testing.assert_array_equal(second.transform(pixels), first.transform(pixels))


class Loud(Augmentation):
    pass


class OwnAdam(torch.optim.Adam):
    pass


@pytest.mark.parametrize(
    "change",
    [
        {"random_state": None},
        {"random_state": np.random.RandomState(0)},
        {"augmentation": Loud()},
        {"optimizer": OwnAdam},
    ],
    ids=["no seed", "a generator", "own augmentation", "own optimizer"],
)
def test_results_without_a_reproducible_key_are_never_reused(
    pixels, three_classes, tmp_path, work, change
):
    settings = BRIEF | {"cache": tmp_path / "cache"} | change
    for _ in range(2):
        tiny_featurizer(**settings).fit(pixels, three_classes)
    assert work["trainings"] == 2
    assert len(Cache(tmp_path / "cache")) == 0


def test_a_network_in_the_cache_that_was_altered_is_trained_anew(
    pixels, three_classes, tmp_path, work
):
    settings = BRIEF | {"cache": tmp_path / "cache"}
    first = tiny_featurizer(**settings).fit(pixels, three_classes)
    (file,) = (tmp_path / "cache").glob("*.sqlite")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE entries SET value = zeroblob(length(value))")
    connection.close()
    second = tiny_featurizer(**settings).fit(pixels, three_classes)
    assert work["trainings"] == 2
    np.testing.assert_array_equal(second.transform(pixels), first.transform(pixels))


@pytest.mark.parametrize("replace", [lambda file: Image.new("RGB", (40, 40)).save(file), os.unlink])
def test_a_network_whose_images_change_during_the_training_is_not_stored(
    replace, paths, three_classes, tmp_path, monkeypatch
):
    fine_tune = effboost._training.cached_runs.fine_tune

    def fine_tune_and_replace(*args, **kwargs):
        history = fine_tune(*args, **kwargs)
        replace(paths[3])
        return history

    monkeypatch.setattr(effboost._training.cached_runs, "fine_tune", fine_tune_and_replace)
    tiny_featurizer(**BRIEF, cache=tmp_path / "cache").fit(paths, three_classes)
    assert len(Cache(tmp_path / "cache")) == 0


@pytest.mark.parametrize("fit_hybrid", [False, True])
def test_features_of_images_that_change_during_the_training_are_not_found_for_the_new_ones(
    fit_hybrid, paths, three_classes, tmp_path
):
    class Replace(skorch.callbacks.Callback):
        def on_train_end(self, net, **others):
            Image.new("RGB", (40, 40), "red").save(paths[3])

    featurizer = tiny_featurizer(**BRIEF, cache=tmp_path / "cache", callbacks=[Replace()])
    if fit_hybrid:
        clf = HybridClassifier(featurizer, LogisticRegression(), random_state=0)
        featurizer = clf.fit(paths, three_classes).featurizer_
    else:
        featurizer.fit_transform(paths, three_classes)
    found = featurizer.transform(paths)
    featurizer.cache = None
    np.testing.assert_array_equal(found, featurizer.transform(paths))


def test_settings_from_numpy_are_those_of_python(pixels, three_classes, tmp_path, work):
    settings = BRIEF | {"cache": tmp_path / "cache"}
    first = tiny_featurizer(**settings, lr=0.5).fit(pixels, three_classes)
    settings |= {"max_epochs": np.int64(2), "batch_size": np.int32(8), "image_size": np.int64(24)}
    second = tiny_featurizer(**settings, lr=np.float32(0.5)).fit(pixels, three_classes)
    assert work["trainings"] == 1
    np.testing.assert_array_equal(second.transform(pixels), first.transform(pixels))


def test_three_rates_are_kept_apart_from_one_and_from_others(pixels, three_classes, tmp_path, work):
    def fit(lr):
        featurizer = tiny_featurizer(**BRIEF, lr=lr, cache=tmp_path / "cache")
        return featurizer.fit(pixels, three_classes).transform(pixels)

    first = fit((1e-3, 1e-3, 1e-1))
    fit(1e-3)
    fit((1e-4, 1e-3, 1e-1))
    assert work["trainings"] == 3
    np.testing.assert_array_equal(fit([1e-3, 1e-3, 1e-1]), first)
    assert work["trainings"] == 3
