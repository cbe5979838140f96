"""Estimators that take any table of numbers for images, so that scikit-learn's checks can run.

The checks make tables of one to twenty columns; `image_shape` knows one width alone. Nothing
but the step from a row to a picture is replaced.
"""

import numpy as np
from torch import nn

from effboost import EfficientNetFeaturizer, ImageFeaturizer, ImageSequence
from effboost._featurizer_keywords import build_featurizer
from effboost.backbones import BackboneSpec

_SIDE = 8


class _AnyTable:
    def _rows_to_images(self, rows):
        """Draw each number as a vertical stripe, from black (far below 0) to white."""
        grey = 1 / (1 + np.exp(-np.clip(rows.astype(np.float64) / 4, -30, 30)))
        wide = np.repeat(grey, -(-_SIDE // grey.shape[1]), axis=1)
        return ImageSequence(np.repeat(wide[:, np.newaxis], _SIDE, axis=1))


class AnyTableFeaturizer(_AnyTable, ImageFeaturizer):
    """ImageFeaturizer on tables."""


class AnyTableEfficientNetFeaturizer(_AnyTable, EfficientNetFeaturizer):
    """EfficientNetFeaturizer on tables."""


def stripes_net():
    """A network that still sees where a stripe was: 4 channels of 8 columns."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((1, 8)),
        nn.Flatten(),
        nn.Linear(32, 1000),
    )


def any_table(kind, **params):
    """Build such a featurizer on a tiny backbone."""
    settings = {
        "backbone": BackboneSpec("stripes", family="efficientnet", factory=stripes_net),
        "weights": None,
        "crop_size": None,
        "image_size": 16,
        "image_shape": (_SIDE, _SIDE),
        "random_state": 0,
    }
    return build_featurizer(kind=kind, **(settings | params))
