"""Train a small network on generated cells, and draw what decided on four others."""

import numpy as np
from torch import nn

from effboost import FineTuning, HybridClassifier, ImageFeaturizer, ImageTransform
from effboost.datasets import make_blood_cells
from effboost.inspection import AttributionDisplay


def build_network():
    """Eight times fewer pixels a side, so that maps of 16 x 16 explain pictures of 128 x 128."""
    layers = []
    for n_in, n_out, stride in ((3, 16, 2), (16, 32, 2), (32, 64, 2), (64, 64, 1)):
        layers += [nn.Conv2d(n_in, n_out, 3, stride, 1), nn.BatchNorm2d(n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 1000))


cells = make_blood_cells(n_subjects=30, images_per_subject=10, image_size=128, random_state=0)
train, test = np.arange(200), np.arange(200, 300)
network = ImageFeaturizer(
    build_network,
    weights=None,
    training=FineTuning(max_epochs=12, lr=3e-3),
    transform=ImageTransform(crop_size=None, image_size=128),
)
clf = HybridClassifier(network, random_state=0)
clf.fit(cells.images[train], cells.target[train], groups=cells.groups[train])
right = clf.predict(cells.images[test]) == cells.target[test]
chosen = [test[right & (cells.target[test] == label)][:20:10] for label in clf.classes_]
AttributionDisplay.from_estimator(
    clf, cells.images[np.concatenate(chosen)], background=cells.images[train]
)
