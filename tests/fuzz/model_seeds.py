"""Small model files with a head of every kind."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

import effboost
from common.heads import HEADS, N_FEATURES, features, fitted_heads
from common.model_files import read_members, write_members
from effboost import HybridClassifier, ImageFeaturizer
from effboost._featurizer_keywords import build_featurizer
from effboost.backbones import BackboneSpec
from effboost.datasets import make_blood_cells
from effboost.persistence._heads import write_heads

__all__ = ["head_seeds", "make_featurizer", "model_seeds"]

# Its outputs are the features: as many as the heads take.
TINY = BackboneSpec(
    "mobilenet_v2",
    weights=None,
    options=(
        ("inverted_residual_setting", [[1, 16, 1, 2], [2, 16, 1, 2]]),
        ("width_mult", 0.25),
        ("num_classes", N_FEATURES),
    ),
)


def head_seeds():
    """Return heads of every kind, for two and for three classes, as (description, members)."""
    seeds = []
    for n_classes in (2, 3):
        for name in HEADS:
            head = fitted_heads(n_classes)[name]
            description, members, _ = write_heads({"classifier": None, "classifier_": head})
            seeds.append((description, members, n_classes))
    return seeds


def model_seeds():
    """Return model files with the same heads, on a network of few weights."""
    files = []
    for description, members, n_classes in head_seeds():
        manifest, parts = read_members(_save_hybrid(n_classes))
        parts = {"network.safetensors": parts["network.safetensors"], **members}
        manifest["model"]["heads"] = description
        files.append(write_members(manifest, parts))
    return files


def make_featurizer(runtime):
    """Make a featurizer of a network of few weights."""
    return build_featurizer(
        TINY,
        kind=ImageFeaturizer,
        weights=None,
        fine_tune=False,
        features="logits",
        crop_size=None,
        image_size=32,
        runtime=runtime,
        device="cpu",
        random_state=0,
    )


@cache
def _save_hybrid(n_classes):
    cells = make_blood_cells(n_subjects=6, images_per_subject=2, image_size=32, random_state=0)
    featurizer = make_featurizer("torch")
    labels = np.array(["a", "b", "c"])[np.arange(len(cells.images)) % n_classes]
    clf = HybridClassifier(featurizer, LogisticRegression()).fit(cells.images, labels)
    # Where the heads have learned.
    clf.feature_means_ = features(n_classes=n_classes)[0].mean(axis=0, dtype=np.float64)
    with tempfile.TemporaryDirectory() as folder:
        return effboost.save(clf, Path(folder, "model.effboost")).read_bytes()
