"""A small hybrid and its exported file, made once: an export takes seconds."""

import functools
import tempfile
from pathlib import Path

import numpy as np
from xgboost import XGBClassifier

import onnx
from common.networks import tiny_featurizer
from effboost import HybridClassifier, export_onnx


def cells(n=36, side=40, seed=0):
    """Return noisy images of three kinds that differ in mean colour, and their kinds."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 150, (n, side, side, 3), dtype=np.uint8)
    kinds = np.arange(n) % 3
    pictures[np.arange(n), :, :, kinds] += 60
    return pictures, np.array(["blast", "healthy", "other"])[kinds]


@functools.cache
def tiny_hybrid():
    """Fit a hybrid that crops 36 of 40 pixels."""
    featurizer = tiny_featurizer(crop_size=36, runtime="onnxruntime")
    return HybridClassifier(featurizer, XGBClassifier(n_estimators=5)).fit(*cells())


@functools.cache
def tiny_file():
    """Return the bytes of its exported file."""
    with tempfile.TemporaryDirectory() as folder:
        return export_onnx(tiny_hybrid(), Path(folder, "tiny.onnx")).read_bytes()


def edited(edit):
    """Return the exported file after a change of its model."""
    model = onnx.load_from_string(tiny_file())
    edit(model)
    return model.SerializeToString()
