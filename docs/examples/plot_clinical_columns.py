"""
Clinical columns beside images
==============================

Combine images with a blood count in one scikit-learn pipeline, and see what each adds.
"""

# %%
# A table with a row for each image: its pixels (or its path), and the leucocytes and the age of its
# subject. Leukemic subjects have more leucocytes on average, with much overlap; age says nothing.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from effboost import EfficientNetFeaturizer, ImageTransform
from effboost.datasets import make_blood_cells
from effboost.model_selection import SubjectKFold, aggregate_by_subject

cells = make_blood_cells(24, 6, image_size=96, difficulty="hard", random_state=0)
rng = np.random.default_rng(0)
subjects, of_image = np.unique(cells.groups, return_inverse=True)
ill = np.array([cells.target[cells.groups == subject][0] == "ALL" for subject in subjects])
table = pd.DataFrame(
    {
        "image": list(cells.images),
        "leucocytes": np.exp(rng.normal(2 + 0.8 * ill, 0.8))[of_image],
        "age": rng.uniform(2, 16, len(subjects))[of_image],
    }
)

# %%
# ``EfficientNetFeaturizer`` turns the column of images into features, as other transformers do for
# other columns. ``training=None`` leaves the pretrained network as it is.
featurizer = EfficientNetFeaturizer(
    "efficientnet_lite0",
    training=None,
    transform=ImageTransform(crop_size=None, image_size=96),
    random_state=0,
)
columns = {
    "images": [(make_pipeline(featurizer, StandardScaler()), ["image"])],
    "clinical": [(StandardScaler(), ["leucocytes", "age"])],
}
columns["both"] = columns["images"] + columns["clinical"]

# %%
# Out-of-fold probabilities of subjects that no model has seen, averaged for each subject.
folds = list(SubjectKFold(4).split(table, cells.target, cells.groups))
scores = {}
for name, transformers in columns.items():
    model = make_pipeline(
        make_column_transformer(*transformers), LogisticRegression(C=0.01, max_iter=1000)
    )
    found = cross_val_predict(model, table, cells.target, cv=folds, method="predict_proba")
    names, means = aggregate_by_subject(found, cells.groups)
    scores[name] = roc_auc_score(ill, means[:, 0])
    print(f"{name}: AUROC of subjects {scores[name]:.2f}")

figure, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
ax.bar(scores.keys(), scores.values(), color=["tab:blue", "tab:orange", "tab:green"])
ax.axhline(0.5, color="black", linestyle="--")
ax.set(ylim=(0, 1), ylabel="AUROC of new subjects")
