"""
Two laboratories
================

A model that has seen one microscope may fail at the next. Measure the gap, and see whether adapting
to the new site helps.
"""

# %%
# Two sites with the same disease: the second one has another stain, a darker lamp and less focus.
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression

from effboost import SiteAdaptedClassifier, evaluate, presets
from effboost.datasets import make_blood_cells

cells = make_blood_cells(24, 6, image_size=96, random_state=0)
second = cells.groups >= "S012"
images = cells.images.copy()
blurred = gaussian_filter(images[second].astype(float), sigma=(0, 1.5, 1.5, 0))
images[second] = blurred * [0.45, 0.8, 0.65]
sites = np.where(second, "Rome", "Oslo")

figure, axes = plt.subplots(1, 4, figsize=(8, 2.3), layout="constrained")
for ax, position in zip(axes, [0, 6, 72, 78], strict=True):
    ax.imshow(images[position])
    ax.set_title(f"{sites[position]}, {cells.target[position]}", fontsize=10)
    ax.set_axis_off()

# %%
# With ``sites``, each site is predicted by a model of the others, beside models of its own
# subjects. ``SiteAdaptedClassifier`` brings the features of the images that it predicts to the
# means and deviations of the training images, without labels.
head = LogisticRegression(C=0.01, max_iter=2000)
systems = {"as it is": head, "adapted": SiteAdaptedClassifier(head)}
found = {}
for name, classifier in systems.items():
    clf = presets.frozen("efficientnet_lite0", image_size=96, random_state=0)
    clf.set_params(classifier=classifier)
    report = evaluate(
        clf, images, cells.target, groups=cells.groups, sites=sites, cv=3, n_bootstrap=200
    )
    found[name] = report.sites
    for site, result in report.sites.items():
        compared = result.metrics["accuracy"]
        print(f"{name}, {site}: {compared.across.value:.2f}, within {compared.within.value:.2f}")

# %%
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for place, of_sites in enumerate(found.values()):
    for shift, (site, result) in enumerate(of_sites.items()):
        compared = result.metrics["accuracy"]
        x = 3 * place + shift
        ax.bar(x, compared.across.value, color="tab:orange", width=0.8)
        ax.plot([x - 0.4, x + 0.4], [compared.within.value] * 2, color="black", linewidth=3)
        ax.text(x, 0.03, site, ha="center", color="white")
ax.set_xticks([0.5, 3.5], found)
ax.set(ylim=(0, 1), ylabel="accuracy", title="Model of the other site; line: of its own site")
