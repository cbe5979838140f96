"""White cells of two laboratories, with features that are computed once for each preparation."""

from pathlib import Path

import numpy as np
from sklearn.base import clone

from effboost import ImageSequence, presets
from effboost.datasets import load_image_folder

KINDS = ("eosinophil", "lymphocyte", "monocyte", "neutrophil")
# The transforms that are compared, as keywords of presets.
PREPARATIONS = {
    "as it is": {},
    "Reinhard": {"stain": "reinhard"},
    "Macenko": {"stain": "macenko"},
    "crop to the cell": {"foreground": True},
    # The central 160 x 160 pixels: in PBC, cells then fill as much of the image as in BCCD.
    "same frame": {},
}


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


def compute_features(paths, target, preparation, views, cache, **settings):
    """Compute features of the last and of earlier stages, or read those of an earlier run.

    The first columns are those of the last stage, which are all that the paper's head uses.
    """
    words = (preparation, views, *(str(value) for value in settings.values()))
    file = cache / ("_".join(words).replace(" ", "-") + ".npy")
    if file.is_file():
        return np.load(file)
    options = {"extra_features": "stages", "views": views, **settings, **PREPARATIONS[preparation]}
    clf = presets.frozen(random_state=0, **options)
    images = ImageSequence(paths, frame=160 if preparation == "same frame" else None)
    features = clone(clf.featurizer).fit(images, target).transform(images)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(file, features)
    return features
