"""Write the golden files of the current format: `python tests/persistence/golden/make.py`.

Run once for each version of the format; the files of older versions stay as they are.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

import effboost
from effboost import CNNClassifier, HybridClassifier, ImageFeaturizer, presets
from effboost._featurizer_keywords import build_featurizer
from effboost.backbones import BackboneSpec
from effboost.datasets import make_blood_cells
from effboost.persistence._manifest import VERSION

HERE = Path(__file__).parent
CELLS = {"n_subjects": 4, "images_per_subject": 4, "image_size": 48, "random_state": 0}
# A tenth of the usual width, for its weights are most of a file.
NARROW = BackboneSpec(
    "mobilenet_v2", weights=None, options=(("width_mult", 0.1), ("num_classes", 4))
)


SMALL = {
    "weights": None,
    "image_size": 32,
    # Its last digits depend least on versions and machines.
    "runtime": "torch",
    "device": "cpu",
    "random_state": 0,
}


def featurizer(backbone, **params):
    settings = SMALL | {"crop_size": None} | params
    return build_featurizer(backbone, kind=ImageFeaturizer, **settings)


def models():
    """Yield models of each kind of head, not fitted."""
    booster = XGBClassifier(n_estimators=4, max_depth=2, tree_method="hist", n_jobs=1)
    voters = [
        ("linear", make_pipeline(StandardScaler(), LogisticRegression())),
        ("boosted", XGBClassifier(n_estimators=2, max_depth=2, tree_method="hist", n_jobs=1)),
        ("forest", RandomForestClassifier(n_estimators=3, max_depth=3)),
    ]
    yield (
        "hybrid",
        HybridClassifier(featurizer("shufflenet_v2_x0_5", max_epochs=1), booster, random_state=0),
    )
    yield "cnn", CNNClassifier(featurizer(NARROW, max_epochs=2, features="logits"), random_state=0)
    voting = VotingClassifier(voters, voting="soft")
    yield "voting", frozen(voting)
    yield "calibrated-temperature", frozen(booster, calibration="temperature")
    yield "calibrated-sigmoid", frozen(LogisticRegression(), calibration="sigmoid")
    yield "pipeline", frozen(make_pipeline(StandardScaler(), booster))
    yield "cnn-pooled", CNNClassifier(featurizer(NARROW, max_epochs=1), random_state=0)
    yield "recommended", presets.recommended(NARROW, **SMALL)
    yield "stages", frozen(booster, extra_features=((-9, "avg"), (-3, "max"), (-1, "std")))
    tuned = presets.recommended(NARROW, fine_tune=True, max_epochs=1, **SMALL)
    yield "recommended-tuned", tuned


def frozen(head, extra_features=None, **params):
    own = featurizer(NARROW, fine_tune=False, extra_features=extra_features)
    return HybridClassifier(own, head, random_state=0, **params)


def main():
    cells = make_blood_cells(**CELLS)
    labels = np.asarray(cells.target)
    expected = {}
    for name, model in models():
        model.fit(cells.images, labels, groups=cells.groups)
        for epoch in model.history_:
            epoch["dur"] = 0.0  # of the machine that made them
        path = effboost.save(model, HERE / f"format-{VERSION}-{name}.effboost")
        expected[path.name] = {
            "classes": model.classes_.tolist(),
            "probabilities": model.predict_proba(cells.images).astype(float).round(7).tolist(),
        }
    (HERE / f"expected-{VERSION}.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
