"""
How many patients do I need?
============================

Measure the accuracy with fewer training subjects, and extrapolate it to more of them.
"""

# %%
import tempfile

from sklearn.linear_model import LogisticRegression

from effboost import presets
from effboost.datasets import make_blood_cells
from effboost.evaluation import learning_curve
from effboost.inspection import LearningCurveDisplay

cells = make_blood_cells(24, 6, image_size=64, random_state=0)
folder = tempfile.TemporaryDirectory()
clf = presets.frozen("efficientnet_lite0", image_size=64, cache=folder.name, random_state=0)
clf.set_params(classifier=LogisticRegression(C=0.01, max_iter=2000))

# %%
# The number that counts is that of subjects: more cells of the same subjects help little. Every
# model is tested on subjects that it has not seen.
curve = learning_curve(
    clf,
    cells.images,
    cells.target,
    groups=cells.groups,
    fractions=(0.25, 0.5, 0.75, 1.0),
    cv=3,
    n_repeats=2,
    n_bootstrap=200,
)
print(curve)
folder.cleanup()

# %%
# The dashed part is a power law, fitted to the measured points, with its interval.
LearningCurveDisplay.from_curve(curve, factor=2)
