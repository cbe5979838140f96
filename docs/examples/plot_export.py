"""
One file without torch
======================

Export a classifier to ONNX, and run it where neither torch nor XGBoost is installed.
"""

# %%
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from effboost import presets
from effboost.datasets import make_blood_cells
from effboost.onnx import OnnxClassifier, export_onnx

cells = make_blood_cells(12, 6, image_size=128, random_state=0)
clf = presets.frozen("efficientnet_lite0", image_size=96, random_state=0)
clf.fit(cells.images, cells.target, groups=cells.groups)

# %%
# The file holds everything between an image of any size and its class: crop, resizing,
# normalisation, the network, the trees and the labels.
folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "cells.onnx")
export_onnx(clf, path)
print(f"{path.stat().st_size / 1e6:.1f} MB")

# %%
# ``OnnxClassifier`` loads numpy, Pillow, scikit-learn and onnxruntime only.
model = OnnxClassifier(path)
new = make_blood_cells(6, 10, image_size=128, random_state=1).images
expected, found = clf.predict_proba(new), model.predict_proba(new)
print("largest difference:", np.abs(expected - found).max())

# %%
seconds = []
for picture in new:
    start = time.perf_counter()
    model.predict_proba(picture[None])
    seconds.append(time.perf_counter() - start)
folder.cleanup()

figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
axes[0].scatter(expected[:, 0], found[:, 0], s=20)
axes[0].plot([0, 1], [0, 1], color="grey", linewidth=1)
axes[0].set(xlabel="effboost: probability of ALL", ylabel="ONNX file", aspect="equal")
axes[1].hist(1000 * np.array(seconds), bins=20)
axes[1].set(xlabel="milliseconds for one image", ylabel="images")
