"""Do explanations mark the pixels that the hybrid's decision depends on?

On generated cells of new subjects: is the strongest pixel on the cell, which share of the positive
attribution is, and does hiding the marked pixels change the prediction? All maps are of the class
that the hybrid predicts. With --data, the cells are real ones, without known masks.
"""

import numpy as np
from _common import (
    add_data_options,
    add_training_options,
    interleaved_seconds,
    load_data,
    make_parser,
    network_settings,
    report,
    training_settings,
)
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from sklearn.base import clone

from effboost import presets
from effboost.datasets import make_blood_cells
from effboost.inspection import grad_cam, hybrid_attribution, occlusion_attribution
from effboost.model_selection import subject_split

_GRID = 14  # squares per side that are hidden one by one, the same for all maps
_BOOTSTRAP = 2000
_CORRELATION = "rank correlation with the first"
_PARTS = ("curves", "complete", "seconds")


def predicted(found):
    """Return each image's map for the predicted class."""
    if found.margin.shape[1] == 1:
        least = 0.5 if found.is_probability else 0.0
        return found.maps[:, 0] * np.where(found.margin[:, :1] > least, 1, -1)[..., None]
    return found.maps[np.arange(len(found.maps)), found.margin.argmax(axis=1)]


def resized(maps, side):
    pictures = (Image.fromarray(m.astype(np.float32)) for m in maps)
    return np.stack([p.resize((side, side), Image.Resampling.BILINEAR) for p in pictures])


def points_to(maps, masks):
    """Return 1 for images whose strongest pixel is on the cell."""
    best = maps.reshape(len(maps), -1).argmax(axis=1)
    return masks.reshape(len(masks), -1)[np.arange(len(maps)), best].astype(float)


def mass_on(maps, masks):
    """Compute the share of the positive attribution that is on the cell."""
    positive = np.maximum(maps, 0)
    return (positive * masks).sum(axis=(1, 2)) / np.maximum(positive.sum(axis=(1, 2)), 1e-12)


def area(clf, chosen, start, end, maps, steps):
    """Compute the mean probability while `start` is replaced by `end`, strongest first."""
    n, side = len(start), start.shape[1]
    order = np.argsort(-resized(maps, _GRID).reshape(n, -1), axis=1)
    edges = np.linspace(0, side, _GRID + 1).astype(int)
    pictures, done, curve = start.copy(), 0, []
    for stop in np.linspace(0, _GRID**2, steps + 1).astype(int):
        for i in range(n):
            for row, column in zip(*divmod(order[i, done:stop], _GRID), strict=True):
                rows, columns = (slice(edges[k], edges[k + 1]) for k in (row, column))
                pictures[i, rows, columns] = end[i, rows, columns]
        done = stop
        curve.append(clf.predict_proba(pictures)[np.arange(n), chosen])
    return np.mean(curve, axis=0)


def with_interval(values, groups):
    """Format the mean and its 95 % interval over bootstrap samples of subjects."""
    names, codes = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(codes, weights=values), np.bincount(codes)
    draws = np.random.default_rng(0).integers(0, len(names), (_BOOTSTRAP, len(names)))
    low, high = np.quantile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), [0.025, 0.975])
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def rank_correlation(maps, others):
    """Compute the rank correlation of two maps of each image, on the grid of the curves."""
    small, other = (resized(values, _GRID).reshape(len(maps), -1) for values in (maps, others))
    return np.array([spearmanr(*pair).statistic for pair in zip(small, other, strict=True)])


def explain(clf, X, background):
    """Compute the maps of each method, at the size of the images."""
    best = clf.predict(X)
    maps = {
        "hybrid attribution": predicted(hybrid_attribution(clf, X)),
        "the same, with background": predicted(hybrid_attribution(clf, X, background=background)),
        "Grad-CAM of the CNN": grad_cam(clf, X, target=best).maps,
        "Grad-CAM++ of the CNN": grad_cam(clf, X, target=best, method="grad_cam++").maps,
        "Eigen-CAM": grad_cam(clf, X, method="eigen_cam").maps,
        "occlusion": predicted(occlusion_attribution(clf, X)),
        "random": np.random.default_rng(0).normal(size=(len(X), 7, 7)),
    }
    return {name: resized(values, X.shape[1]) for name, values in maps.items()}


def explain_recommended(clf, paper, X, background):
    """Compute maps for the decisions of the recommended hybrid.

    Its network has no classification layer: Grad-CAM, and the map of the paper's hybrid, are those
    of `paper`, which was fitted on the same images.
    """
    random = clone(clf).set_params(featurizer__weights=None)
    # The same decisions, by a network that has learnt nothing.
    random.fit(background, clf.predict(background))
    best = clf.predict(X)
    maps = {
        "exact": predicted(hybrid_attribution(clf, X)),
        "exact, with background": predicted(hybrid_attribution(clf, X, background=background)),
        "exact, of a network with random weights": predicted(hybrid_attribution(random, X)),
        "of the paper's hybrid": towards(hybrid_attribution(paper, X), best),
        "Grad-CAM of the paper's CNN": grad_cam(paper, X, target=best).maps,
        "occlusion": predicted(occlusion_attribution(clf, X)),
        "random": np.random.default_rng(0).normal(size=(len(X), 7, 7)),
    }
    return {name: resized(values, X.shape[1]) for name, values in maps.items()}


def towards(found, labels):
    """Return each image's map for a class."""
    if found.margin.shape[1] == 1:
        return found.maps[:, 0] * np.where(labels == found.outputs[0], 1, -1)[:, None, None]
    return found.maps[np.arange(len(labels)), np.searchsorted(found.outputs, labels)]


def compare(clf, maps, X, masks, groups, steps):
    """Compute a row for each method, and differences from the first and from Grad-CAM."""
    chosen = clf.predict_proba(X).argmax(axis=1)
    black = np.zeros_like(X)
    blurred = gaussian_filter(X, sigma=(0, X.shape[1] / 8, X.shape[1] / 8, 0))
    first, *_ = maps
    measures = {}
    for name, values in maps.items():
        measured = {}
        if masks is not None:
            measured["points to the cell"] = points_to(values, masks)
            measured["mass on the cell"] = mass_on(values, masks)
        measured["deletion (low is good)"] = area(clf, chosen, X, black, values, steps)
        measured["insertion (high is good)"] = area(clf, chosen, blurred, X, values, steps)
        measured[_CORRELATION] = rank_correlation(values, maps[first])
        measures[name] = measured
    rows = [
        {"map": name} | {key: with_interval(v, groups) for key, v in measured.items()}
        for name, measured in measures.items()
    ]
    (cam,) = (name for name in maps if name.startswith("Grad-CAM of"))
    for name in list(maps)[:2]:
        own, other = measures[name], measures[cam]
        rows.append(
            {"map": f"{name} minus Grad-CAM"}
            | {
                key: "" if key == _CORRELATION else with_interval(own[key] - other[key], groups)
                for key in other
            }
        )
    return rows


def check_complete(clf, X):
    """Compute the largest gap between map plus base and margin, relative to the margin or 1."""
    found = hybrid_attribution(clf, X)
    gap = np.abs(found.maps.sum(axis=(2, 3)) + found.base - found.margin)
    return float((gap / np.maximum(1, np.abs(found.margin))).max())


def seconds_of(clf, X):
    """Time features and heat maps in turn; return the medians."""
    runs = {"features": lambda: clf.transform(X), "heat maps": lambda: hybrid_attribution(clf, X)}
    return interleaved_seconds(runs, 3, warm_up=True)


def load_cells(options):
    """Load pictures of one size, their masks if they are known, labels and subjects."""
    side = options.image_size
    if not options.data:
        n_subjects = 8 if options.small else options.subjects
        cells = make_blood_cells(n_subjects, 8, image_size=side, return_masks=True, random_state=0)
        return cells.images, cells.masks, cells.target, cells.groups
    paths, target, groups = load_data(options, 0, 0, side)
    pictures = (Image.open(path).convert("RGB").resize((side, side)) for path in paths)
    return np.stack([np.asarray(picture) for picture in pictures]), None, target, groups


def build(options):
    """Build the hybrid whose decisions are explained, and the paper's."""
    own = network_settings(options)
    paper = presets.paper(**own, **training_settings(options))
    if not options.recommended:
        return paper, paper
    del own["normalize"]
    return presets.recommended(**own), paper


def draw_curves(options, suffix):
    """Compare the maps on cells of subjects that no model has seen."""
    images, masks, target, groups = load_cells(options)
    split = subject_split(target, groups, test_size=0.3, random_state=0)
    train, test = split.train[: options.train_images], split.test
    test = test[np.linspace(0, len(test) - 1, min(options.test_images, len(test))).astype(int)]
    clf, paper = build(options)
    for model in {id(model): model for model in (clf, paper)}.values():
        model.fit(images[train], target[train], groups=groups[train])
        print(f"accuracy on the test subjects: {model.score(images[test], target[test]):.3f}")
    X, background = images[test], images[train][:64]
    if masks is not None:
        masks = masks[test]
        print(f"the cell covers {masks.mean():.2f} of a picture")
    if options.recommended:
        maps = explain_recommended(clf, paper, X, background)
    else:
        maps = explain(clf, X, background)
    rows = compare(clf, maps, X, masks, groups[test], options.steps)
    report(f"attribution{suffix}", __doc__, rows)


def main():
    parser = make_parser(__doc__)
    add_data_options(parser)
    add_training_options(parser)
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--train-images", type=int, default=1000, help="at most")
    parser.add_argument("--test-images", type=int, default=1000, help="at most")
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--recommended", action="store_true", help="the recommended hybrid, frozen")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    parser.set_defaults(image_size=160, epochs=5)
    options = parser.parse_args()
    options.image_size = 64 if options.small else options.image_size
    options.epochs = 1 if options.small else options.epochs
    suffix = "_recommended" if options.recommended else ""
    suffix += "_data" if options.data else ""
    if "curves" in options.parts:
        draw_curves(options, suffix)
    if "complete" in options.parts:
        clf, _ = build(options)
        images, target, groups = (
            part[:200] for part in load_data(options, 8, 8, options.image_size)
        )
        clf.fit(images, target, groups=groups)
        gap = check_complete(clf, images)
        row = {"images": len(images), "classes": len(clf.classes_), "largest relative gap": gap}
        question = "Is the map plus the base equal to the margin?"
        report(f"attribution_complete{suffix}", question, [row])
    if "seconds" in options.parts:
        rows = measure_seconds(options)
        report(f"attribution_seconds{suffix}", "How long do 100 heat maps take?", rows)


def measure_seconds(options):
    """Time features and maps of 100 images by each runtime."""
    side = 64 if options.small else 224
    cells = make_blood_cells(5, 20, image_size=side, random_state=0)
    settings = network_settings(options) | {"image_size": side}
    if options.recommended:
        del settings["normalize"]
    preset = presets.recommended if options.recommended else presets.frozen
    rows = []
    for runtime in ("torch", "auto"):
        clf = preset(**settings, runtime=runtime).fit(cells.images[::2], cells.target[::2])
        seconds = seconds_of(clf, cells.images)
        ratio = seconds["heat maps"] / seconds["features"]
        rows.append({"runtime": clf.featurizer_.runtime_} | seconds | {"ratio": ratio})
    return rows


if __name__ == "__main__":
    main()
