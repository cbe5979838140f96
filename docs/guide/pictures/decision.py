"""The picture of the first page: a cell, what speaks for the decision, and the decision."""

import matplotlib.pyplot as plt

from effboost import presets
from effboost.datasets import make_blood_cells
from effboost.inspection import hybrid_attribution

cells = make_blood_cells(12, 6, image_size=160, random_state=0)
clf = presets.recommended("efficientnet_lite0", image_size=160, random_state=0)
clf.fit(cells.images, cells.target, groups=cells.groups)
new = make_blood_cells(2, 1, image_size=160, random_state=5).images
found = hybrid_attribution(clf, new, background=cells.images)
probabilities = clf.predict_proba(new)

figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
axes[0].imshow(new[0])
axes[0].set_title("a new cell")
# With two classes, the map is that of one of them; what speaks against it speaks for the other.
predicted = clf.classes_[probabilities[0].argmax()]
heat = found.maps[0, 0] if found.outputs[0] == predicted else -found.maps[0, 0]
limit = abs(heat).max()
axes[1].imshow(new[0].mean(axis=2), cmap="gray", extent=(0, 1, 1, 0))
axes[1].imshow(
    heat,
    cmap="RdBu_r",
    vmin=-limit,
    vmax=limit,
    alpha=0.6,
    extent=(0, 1, 1, 0),
    interpolation="bicubic",
)
axes[1].set_title(f"what speaks for {predicted}")
for ax in axes[:2]:
    ax.set_axis_off()
axes[2].barh(clf.classes_, probabilities[0], color=["tab:red", "tab:blue"])
axes[2].set(xlim=(0, 1), title="the decision", xlabel="probability")
