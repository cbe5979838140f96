"""
A grid search that keeps patients together
==========================================

Search over settings of the head with scikit-learn's ``GridSearchCV``. Each image goes through the
network once, and no subject is on both sides of a fold.
"""

# %%
# An ``ImageSequence`` with groups carries the subject of each image into every fold.
import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV

from effboost import ImageSequence, presets
from effboost.datasets import make_blood_cells
from effboost.metrics import make_subject_scorer
from effboost.model_selection import SubjectKFold

cells = make_blood_cells(16, 8, image_size=96, difficulty="hard", random_state=0)
images = ImageSequence(cells.images, groups=cells.groups)

# %%
# With ``cache``, features are stored by the content of the images and the settings of the
# featurizer: a search over 9 settings and 4 folds extracts them once.
folder = tempfile.TemporaryDirectory()
clf = presets.frozen("efficientnet_lite0", image_size=96, cache=folder.name, random_state=0)
grid = {"classifier__max_depth": [1, 2, 4], "classifier__n_estimators": [5, 20, 40]}
search = GridSearchCV(
    clf,
    grid,
    cv=SubjectKFold(4),
    scoring=make_subject_scorer("roc_auc"),
)
start = time.perf_counter()
search.fit(images, cells.target)
print(f"{time.perf_counter() - start:.0f} s for {9 * 4 + 1} fits; best: {search.best_params_}")

# %%
# The score counts subjects, not images: the AUROC of the mean probability of each subject.
scores = search.cv_results_["mean_test_score"].reshape(3, 3)
figure, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
shown = ax.imshow(scores, cmap="viridis")
ax.set_xticks(range(3), grid["classifier__n_estimators"])
ax.set_yticks(range(3), grid["classifier__max_depth"])
ax.set(xlabel="number of trees", ylabel="depth", title="AUROC of new subjects")
for (row, column), score in np.ndenumerate(scores):
    shade = "black" if score > scores.mean() else "white"
    ax.text(column, row, f"{score:.2f}", ha="center", va="center", color=shade)
figure.colorbar(shown)
folder.cleanup()
