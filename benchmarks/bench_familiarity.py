"""Does a classifier of white cells notice what is no white cell of its laboratory?

Fitted on white cells of BCCD by kind, with photos as groups. For each held-out fold, images are
flagged that are no such cells: red cells and platelets of photos that are not in training, white
cells of another laboratory (PBC), and photographs of scikit-image, whole and in crops of the size
of a cell. AUROC is that of the p-value (or of the distance, for other methods) against held-out
white cells. "flagged" is the share of images that are not familiar at the default `alpha`.
"""

import warnings
from pathlib import Path

import numpy as np
from _common import make_parser, report
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import NearestNeighbors

from effboost import ImageSequence, presets
from effboost._heads.feature_distance import FeatureDistance
from effboost.datasets import load_image_folder, make_blood_cells
from effboost.exceptions import ImageWarning

PHOTOS = (
    "astronaut", "camera", "chelsea", "clock", "coffee", "coins", "grass", "moon", "rocket", "text",
)  # fmt: skip
SIDE = 160


# --- data --------------------------------------------------------------------------------------


def load_photographs(n_crops):
    """Load photographs of scikit-image, each whole and in random crops."""
    from skimage import data

    rng, found = np.random.default_rng(0), []
    for name in PHOTOS:
        photo = np.asarray(getattr(data, name)())
        if photo.ndim == 2:
            photo = np.stack([photo] * 3, axis=-1)
        found.append(photo)
        for _ in range(n_crops):
            top, left = (int(rng.integers(0, length - SIDE)) for length in photo.shape[:2])
            found.append(photo[top : top + SIDE, left : left + SIDE])
    return found


def load_sets(options):
    """Return paths, classes and groups of white cells, and other images by name."""
    if options.data is None:
        cells = make_blood_cells(12, 4, image_size=64, random_state=0)
        others = {"photographs": (load_photographs(0), None)}
        return cells.images, cells.target, cells.groups, others
    folder = Path(options.data)
    cells = load_image_folder(folder / "bccd_cells", target="label", group="group")
    kinds = load_image_folder(folder / "bccd_cells", target="wbc_subtype", group="group")
    pbc = load_image_folder(folder / "pbc_cells", target="label")
    rng = np.random.default_rng(0)

    def draw(paths, groups):
        chosen = np.sort(rng.permutation(len(paths))[: options.others])
        return paths[chosen], None if groups is None else groups[chosen]

    others = {}
    for name, label in (("red cells", "RBC"), ("platelets", "Platelets")):
        of_label = cells.target == label
        others[name] = draw(cells.paths[of_label], cells.groups[of_label])
    white = np.isin(pbc.target, ("eosinophil", "lymphocyte", "monocyte", "neutrophil"))
    others["white cells, PBC"] = draw(pbc.paths[white], None)
    others["photographs"] = load_photographs(3), None
    used = np.isin(kinds.target, ("eosinophil", "lymphocyte", "monocyte", "neutrophil"))
    return kinds.paths[used], kinds.target[used], kinds.groups[used], others


# --- methods -----------------------------------------------------------------------------------


def by_neighbours(train, target, n_components=None):
    """Return the mean distance to 5 training images, of standardised features."""
    mean, deviation = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-3)
    axes = None
    if n_components is not None:
        axes = np.linalg.svd((train - mean) / deviation, full_matrices=False)[2][:n_components].T

    def place(rows):
        standard = (rows - mean) / deviation
        return standard if axes is None else standard @ axes

    search = NearestNeighbors(n_neighbors=5).fit(place(train))
    return lambda rows: search.kneighbors(place(rows))[0].mean(axis=1)


def by_distance(train, target, *, rooted=True, n_components=32):
    """Return the distance that is used, or a variant of it."""
    n_components = min(n_components, len(train) // 4)
    fitted = FeatureDistance._fit(train if rooted else _squares(train), target, n_components)
    return lambda rows: fitted.measure(rows if rooted else _squares(rows))


def _squares(rows):
    # Whose signed roots are the features.
    return np.sign(rows) * np.square(rows)


METHODS = {
    "features alone": by_distance,
    "one mean for all classes": lambda train, target: by_distance(train, np.zeros(len(target))),
    "without roots": lambda train, target: by_distance(train, target, rooted=False),
    "16 components": lambda train, target: by_distance(train, target, n_components=16),
    "5 neighbours": by_neighbours,
    "5 neighbours, 32 components": lambda train, target: by_neighbours(train, target, 32),
}


# --- measuring ---------------------------------------------------------------------------------


def auroc(familiar, unfamiliar):
    """Compute the AUROC of scores that are larger for unfamiliar images."""
    target = np.repeat([0, 1], [len(familiar), len(unfamiliar)])
    return float(roc_auc_score(target, np.concatenate([familiar, unfamiliar])))


def measure_fold(clf, X, y, groups, train, test, others):
    """Return a row of numbers for each set of images, by its name, and the variants' AUROC."""
    held_out = clf.check_familiarity(ImageSequence(X[test]))
    features = clf.transform(ImageSequence(X[train])).astype(np.float64)
    own = clf.transform(ImageSequence(X[test])).astype(np.float64)
    scores = {name: make(features, y[train]) for name, make in METHODS.items()}
    rows = {"white cells, held out": {"flagged": float((~held_out.familiar).mean())}}
    rows["white cells, held out"]["by features"] = flagged_by(held_out, "features")
    for name, (images, of_groups) in others.items():
        if of_groups is not None:
            images = images[~np.isin(of_groups, groups[train])]
        images = ImageSequence(images)
        table = clf.check_familiarity(images)
        there = clf.transform(images).astype(np.float64)
        rows[name] = {
            "flagged": float((~table.familiar).mean()),
            "by features": flagged_by(table, "features"),
            "AUROC": auroc(-held_out.p_values, -table.p_values),
            **{f"AUROC, {key}": auroc(score(own), score(there)) for key, score in scores.items()},
        }
    return rows


def flagged_by(table, reason):
    """Return the share of images that have a reason."""
    return float(np.mean([reason in reasons for reasons in table.reasons]))


def measure_preset(name, options, X, y, groups, others):
    """Return the means over the folds, one row for each set of images."""
    folds = StratifiedGroupKFold(options.folds, shuffle=True, random_state=0)
    found = []
    for train, test in folds.split(X, y, groups):
        settings = {"image_size": 32} if options.small else {}
        clf = getattr(presets, name)(
            options.backbone,
            weights=None if options.weights == "none" else options.weights,
            cache=options.cache,
            random_state=0,
            **settings,
        )
        clf.fit(ImageSequence(X[train]), y[train], groups=groups[train])
        found.append(measure_fold(clf, X, y, groups, train, test, others))
        print(name, found[-1], flush=True)
    keys = list(found[0]["photographs"])
    return [
        {"preset": name, "images": images}
        | {
            key: float(np.mean([fold[images][key] for fold in found]))
            if key in found[0][images]
            else ""
            for key in keys
        }
        for images in found[0]
    ]


def main():
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--data", help="folder with bccd_cells and pbc_cells; default: generated cells")
    add("--presets", nargs="+", default=["recommended", "paper"])
    add("--backbone", default="efficientnet_lite0")
    add("--weights", default="imagenet", help='"imagenet", "none" or a file')
    add("--folds", type=int, default=3)
    add("--others", type=int, default=60, help="images of each other set")
    add("--cache", help="folder for features and fine-tuned networks")
    options = parser.parse_args()
    if options.small:
        options.data, options.folds, options.presets = None, 2, ["frozen"]
        options.backbone, options.weights = "resnet18", "none"
    # The paper's crop is larger than these images.
    warnings.simplefilter("ignore", ImageWarning)
    data = load_sets(options)
    rows = [row for name in options.presets for row in measure_preset(name, options, *data)]
    report("familiarity", __doc__.partition("\n")[0], rows)


if __name__ == "__main__":
    main()
