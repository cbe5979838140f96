"""White cells of two laboratories, with features that are computed once for each preparation."""

from pathlib import Path

import numpy as np
from sklearn.base import clone

from effboost import presets
from effboost.datasets import load_image_folder

KINDS = ("eosinophil", "lymphocyte", "monocyte", "neutrophil")
# The transforms that are compared, as keywords of presets.
PREPARATIONS = {
    "as it is": {},
    "Reinhard": {"stain": "reinhard"},
    "Macenko": {"stain": "macenko"},
    "crop to the cell": {"foreground": True},
}
RECIPES = {"paper's head": presets.frozen, "recommended": presets.recommended}


def load_white_cells(folder):
    """Load the kinds that both sites have: paths, classes, groups and sites.

    Photos are the groups of BCCD. For PBC, where donors are not published, each image is one.
    """
    bccd = load_image_folder(folder / "bccd_cells", target="wbc_subtype", group="group")
    pbc = load_image_folder(folder / "pbc_cells", target="label")
    paths = np.concatenate([bccd.paths, pbc.paths])
    target = np.concatenate([bccd.target, pbc.target])
    groups = np.concatenate([bccd.groups, [Path(path).stem for path in pbc.paths]])
    site = np.repeat(["BCCD", "PBC"], [len(bccd.paths), len(pbc.paths)])
    kept = np.isin(target, KINDS)
    return paths[kept], target[kept], groups[kept], site[kept]


def compute_features(paths, target, recipe, preparation, cache, **settings):
    """Compute the features of a recipe, or read those of an earlier run."""
    words = (recipe, preparation, *(str(value) for value in settings.values()))
    file = cache / ("_".join(words).replace(" ", "-").replace("'", "") + ".npy")
    if file.is_file():
        return np.load(file)
    clf = RECIPES[recipe](random_state=0, **settings, **PREPARATIONS[preparation])
    features = clone(clf.featurizer).fit(paths, target).transform(paths)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(file, features)
    return features
