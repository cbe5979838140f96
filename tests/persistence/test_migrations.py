"""Manifests of format 1, also those that are not what they should be."""

import pytest

from effboost.persistence._migrations import MIGRATIONS

migrate = MIGRATIONS[1]


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"model": "x"},
        {"model": {"backbone": "resnet18"}},
        {"model": {"backbone": "resnet18", "params": [1]}},
        {"model": {"featurizer": None, "featurizer_": {"params": 3}, "heads": {"boosters": 7}}},
        {"model": {"heads": {"boosters": [None, {"params": 1}]}}},
    ],
    ids=str,
)
def test_what_is_not_a_manifest_is_left_to_the_checks(manifest):
    assert migrate(manifest) == manifest


def test_parameters_are_moved_where_they_are_now():
    params = {
        "crop_size": 3,
        "max_epochs": 7,
        "trainable": 2,
        "frozen_views": 4,
        "augmentation": {"Augmentation": {"views": 6}},
        "minority_augmentation": None,
        "recipe": {"FineTuning": {"schedule": "cosine", "weight_decay": 0.1, "mixup_alpha": 0.2}},
        "random_state": 0,
    }
    found = migrate({"model": {"backbone": "resnet18", "params": params}})["model"]["params"]
    assert found == {
        "random_state": 0,
        "transform": {"ImageTransform": {"crop_size": 3}},
        "training": {
            "FineTuning": {
                "max_epochs": 7,
                "trainable": 2,
                "augmentation": {"Augmentation": {"n_views": 6, "frozen_views": 4}},
                "minority_augmentation": None,
                "weight_decay": 0.1,
                "schedule": {"Schedule": {"decay": "cosine"}},
                "regularization": {"Regularization": {"mixup_alpha": 0.2}},
            }
        },
    }


def test_metrics_that_a_fit_left_are_removed():
    booster = {"params": {"eval_metric": ["error", "logloss"], "max_depth": 2}}
    other = {"params": {"eval_metric": "auc"}}
    found = migrate({"model": {"heads": {"boosters": [booster, other]}}})
    params = [part["params"] for part in found["model"]["heads"]["boosters"]]
    assert params == [{"eval_metric": None, "max_depth": 2}, {"eval_metric": "auc"}]
