"""
Wrong labels, found
===================

Plant wrong labels among cells, and let ``label_issues`` find them: images whose label is doubted by
models that were trained on other subjects.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import cross_val_predict

from effboost import ImageSequence, presets
from effboost.datasets import make_blood_cells
from effboost.inspection import label_issues
from effboost.model_selection import SubjectKFold

cells = make_blood_cells(16, 10, image_size=96, random_state=0)
rng = np.random.default_rng(0)
wrong = rng.choice(len(cells.target), 8, replace=False)
target = cells.target.copy()
target[wrong] = np.where(target[wrong] == "ALL", "HEM", "ALL")

# %%
# Probabilities of models that have not seen the image, nor any other of its subject.
images = ImageSequence(cells.images, groups=cells.groups)
clf = presets.recommended("efficientnet_lite0", image_size=96, views="original", random_state=0)
probabilities = cross_val_predict(clf, images, target, cv=SubjectKFold(4), method="predict_proba")
issues = label_issues(target, probabilities, cells.groups, classes=np.unique(target))
found = np.isin(issues.images, wrong)
print(f"{found.sum()} of {len(wrong)} planted labels among {len(found)} that are doubted")

# %%
# The most suspicious images. A red frame marks labels that were planted.
figure, axes = plt.subplots(2, 4, figsize=(9, 5), layout="constrained")
for ax, position in zip(axes.flat, issues.images, strict=False):
    ax.imshow(cells.images[position])
    ax.set_title(f"labelled {target[position]}", fontsize=10)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(color="red" if position in wrong else "grey", linewidth=4)
