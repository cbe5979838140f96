"""
What a leaked patient claims
============================

Split the same images twice: at random, so that cells of one subject are in both parts, and by
subject, as effboost does. The difference is not accuracy, but memory of the subjects.
"""

# %%
# Here the label cannot be seen: half of the subjects of each class are called ill. No classifier
# can be right about new subjects more often than half of the time, except by chance.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import StratifiedKFold

from effboost import evaluate, presets
from effboost.datasets import make_blood_cells

cells = make_blood_cells(16, 10, image_size=96, subject_effect=2.0, random_state=0)
# Every other subject has the class "ALL": pairs of subjects have one of each.
subjects, of_image = np.unique(cells.groups, return_inverse=True)
target = np.where(of_image // 2 % 2 == 0, "ill", "healthy")

# %%
# ``evaluate`` refuses folds that share subjects, unless it is told not to look.
clf = presets.frozen("efficientnet_lite0", image_size=96, random_state=0)
by_image = StratifiedKFold(4, shuffle=True, random_state=0)
options = {"groups": cells.groups, "n_bootstrap": 200}
try:
    evaluate(clf, cells.images, target, cv=by_image, **options)
except ValueError as error:
    print(error)

# %%
# By image, the model recognises the stain and the light of each subject. By subject, the interval
# contains chance, as it should.
reports = {
    "by image": evaluate(clf, cells.images, target, cv=by_image, check_leakage=False, **options),
    "by subject": evaluate(clf, cells.images, target, cv=4, **options),
}
figure, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
for place, (name, report) in enumerate(reports.items()):
    found = report.metrics["accuracy"]
    error = [[found.value - found.low], [found.high - found.value]]
    ax.bar(place, found.value, yerr=error, capsize=6, color=["tab:red", "tab:blue"][place])
    print(f"{name}: accuracy {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]")
ax.axhline(0.5, color="black", linestyle="--", label="chance")
ax.set_xticks(range(2), [f"split {name}" for name in reports])
ax.set(ylabel="accuracy", ylim=(0, 1), title="Labels that cannot be seen")
ax.legend()
