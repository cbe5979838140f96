"""
Exact heat maps of the recommended classifier
=============================================

Show which parts of a cell speak for the decision of the hybrid itself: of its head, and not of the
softmax of a network that does not decide.
"""

# %%
import numpy as np

from effboost import presets
from effboost.datasets import make_blood_cells
from effboost.inspection import AttributionDisplay, hybrid_attribution

cells = make_blood_cells(12, 6, image_size=128, random_state=0)
clf = presets.recommended("efficientnet_lite0", image_size=128, random_state=0)
clf.fit(cells.images, cells.target, groups=cells.groups)

# %%
# The head's linear model and its trees are split over features, and each feature over the positions
# of the map that it was pooled from. The parts sum to the probability.
new = make_blood_cells(2, 2, image_size=128, random_state=5)
found = hybrid_attribution(clf, new.images, background=cells.images)
total = found.maps.sum(axis=(2, 3)) + found.base
print("largest difference to the probability:", np.abs(total - found.margin).max())

# %%
# ``background`` are training images: each position is compared with their mean at that position.
# Red speaks for the class that is named at the scale, blue against it.
AttributionDisplay.from_attribution(new.images, found)

# %%
# How much each stage of the network contributes, on average over these cells:
for stage, share in found.stage_shares().items():
    print(f"{stage}: {share.mean():.2f}")
