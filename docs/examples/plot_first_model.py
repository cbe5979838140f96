"""
A first model
=============

Fit the recommended classifier on images of blood cells, and estimate how well it does on new
patients.
"""

# %%
# Twelve subjects, half of them with leukemic cells (ALL), the others healthy (HEM), ten cells each.
# In your own data, ``groups`` is the patient of each image.
from effboost import evaluate, presets
from effboost.datasets import make_blood_cells
from effboost.inspection import SubjectDisplay

cells = make_blood_cells(n_subjects=12, images_per_subject=10, image_size=96, random_state=0)

# %%
# ``presets.recommended`` takes the features of a pretrained network, here the small
# EfficientNet-Lite0, and trains a linear model and boosted trees on them. ``evaluate`` keeps all
# images of a subject on one side of every split; the intervals come from resampling subjects.
clf = presets.recommended("efficientnet_lite0", image_size=96, random_state=0)
report = evaluate(clf, cells.images, cells.target, groups=cells.groups, cv=3, pos_label="ALL")
print(report)

# %%
# The accuracy over all images hides whether the errors are spread over subjects, or whether one
# subject is wrong altogether.
SubjectDisplay.from_report(report)

# %%
# The model for new images is fitted on all subjects.
clf.fit(cells.images, cells.target, groups=cells.groups)
new = make_blood_cells(n_subjects=2, images_per_subject=3, image_size=96, random_state=1)
print(clf.predict_proba(new.images).round(2))
