"""
Calibration and a threshold for a wanted sensitivity
====================================================

A class that is more probable than not is not yet a decision. Check whether probabilities can be
trusted, and choose a threshold on subjects that the model has not learned from.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import cross_val_predict

from effboost import ImageSequence, presets
from effboost.datasets import make_blood_cells
from effboost.inspection import ReliabilityDisplay
from effboost.metrics import specificity_at_sensitivity
from effboost.model_selection import SubjectKFold

cells = make_blood_cells(24, 8, image_size=96, difficulty="hard", random_state=0)
images = ImageSequence(cells.images, groups=cells.groups)
y = cells.target

# %%
# The paper's boosted trees on features of the last stage, and the recommended hybrid: features of
# earlier stages, and a head whose linear model is regularised by the log-loss on held-out subjects.
# Probabilities are out of fold.
systems = {
    "paper's head": presets.frozen("efficientnet_lite0", image_size=96, random_state=0),
    "recommended": presets.recommended(
        "efficientnet_lite0", image_size=96, views="original", random_state=0
    ),
}
probabilities = {
    name: cross_val_predict(clf, images, y, cv=SubjectKFold(4), method="predict_proba")
    for name, clf in systems.items()
}

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
for ax, (name, found) in zip(axes, probabilities.items(), strict=False):
    display = ReliabilityDisplay.from_predictions(y, found, n_bins=8, ax=ax)
    ax.set_title(f"{name}: calibration error {display.calibration_error:.2f}")
ill = y == "ALL"
for name, found in probabilities.items():
    thresholds = np.linspace(0.01, 0.99, 99)
    sensitivity = [(found[ill, 0] >= t).mean() for t in thresholds]
    specificity = [(found[~ill, 0] < t).mean() for t in thresholds]
    axes[2].plot(specificity, sensitivity, label=name)
    value = specificity_at_sensitivity(y, found[:, 0], pos_label="ALL", sensitivity=0.95)
    print(f"{name}: specificity {value:.2f} at a sensitivity of 0.95")
axes[2].axhline(0.95, color="grey", linestyle=":")
axes[2].set(xlabel="specificity", ylabel="sensitivity", title="Every threshold")
axes[2].legend()
