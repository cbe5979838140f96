"""White cells of two laboratories, with features that are computed once for each preparation."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.base import clone

from effboost import Augmentation, ImageSequence, presets
from effboost.datasets import load_image_folder

KINDS = ("eosinophil", "lymphocyte", "monocyte", "neutrophil")
# The network, frozen, and its features as in each preset.
PRESETS = {"paper's head": presets.frozen, "recommended": presets.recommended}
# Of each training image, beside itself.
N_JITTERED = 2
# As in the training of presets.recommended(fine_tune=True), without its turns.
_JITTER = Augmentation(0.0, 0.0, rotation=0.0, stain_jitter=0.2)
# In PBC, cells then fill as much of the image as in BCCD, whose images have this size.
_FRAME = 160


@dataclass(frozen=True)
class Preparation:
    """What is done to images before the network: keywords of presets, crop, jittered copies."""

    keywords: dict = field(default_factory=dict)
    frame: int | None = None
    jittered: bool = False


PREPARATIONS = {
    "as it is": Preparation(),
    "Reinhard": Preparation({"stain": "reinhard"}),
    "Macenko": Preparation({"stain": "macenko"}),
    "stain jitter": Preparation(jittered=True),
    "crop to the cell": Preparation({"foreground": True}),
    "same frame": Preparation(frame=_FRAME),
    "same frame, Reinhard": Preparation({"stain": "reinhard"}, frame=_FRAME),
    "same frame, Macenko": Preparation({"stain": "macenko"}, frame=_FRAME),
    "same frame, stain jitter": Preparation(frame=_FRAME, jittered=True),
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


def compute_features(paths, target, preset, preparation, cache, draw=0, **settings):
    """Compute the features of each image and of its jittered copies.

    Returns an array of shape (1 + n_copies, n_samples, n_features). `cache` is a folder that keeps
    the features of each picture, so that later runs only read them. `draw` numbers the copies.
    """
    made = PREPARATIONS[preparation]
    clf = PRESETS[preset](cache=cache, random_state=0, **settings, **made.keywords)
    images = ImageSequence(paths, frame=made.frame)
    featurizer = clone(clf.featurizer).fit(images, target)
    versions = [images]
    if made.jittered:
        seeds = range(draw * N_JITTERED, (draw + 1) * N_JITTERED)
        versions += [jittered(images, seed) for seed in seeds]
    return np.stack([featurizer.transform(version) for version in versions])


def jittered(images, seed):
    """Copy images with stains jittered, each by numbers of its own."""
    rngs = [np.random.default_rng((seed, i)) for i in range(len(images))]
    pictures = [Image.fromarray(pixels) for pixels in images]
    return [_JITTER.apply(picture, rng) for picture, rng in zip(pictures, rngs, strict=True)]
