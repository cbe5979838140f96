"""Train on generated cells, and draw what decided on four others."""

import numpy as np

from effboost import HybridClassifier, ImageFeaturizer
from effboost.datasets import make_blood_cells
from effboost.inspection import AttributionDisplay

cells = make_blood_cells(n_subjects=22, images_per_subject=8, image_size=128, random_state=0)
network = ImageFeaturizer("resnet18", weights=None, crop_size=None, image_size=128, max_epochs=5)
clf = HybridClassifier(network, random_state=0)
clf.fit(cells.images[:144], cells.target[:144], groups=cells.groups[:144])
right = clf.predict(cells.images[144:]) == cells.target[144:]
chosen = [144 + np.flatnonzero(right & (cells.target[144:] == label))[:2] for label in clf.classes_]
AttributionDisplay.from_estimator(
    clf, cells.images[np.concatenate(chosen)], background=cells.images[:144]
)
