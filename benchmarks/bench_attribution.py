"""Do explanations mark the pixels that the hybrid's decision depends on?

On generated cells of new subjects: is the strongest pixel on the cell, which share of the positive
attribution is, and does hiding the marked pixels change the prediction? All maps are of the class
that the hybrid predicts.
"""

import time

import numpy as np
from _common import (
    add_data_options,
    add_training_options,
    load_data,
    make_parser,
    network_settings,
    report,
    training_settings,
)
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.base import clone

from effboost import presets
from effboost.datasets import make_blood_cells
from effboost.inspection import grad_cam, hybrid_attribution, occlusion_attribution
from effboost.model_selection import subject_split

_GRID = 14  # squares per side that are hidden one by one, the same for all maps
_BOOTSTRAP = 2000


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


def explain(clf, X, background):
    """Compute the maps of each method, at the size of the images."""
    side = X.shape[1]
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
    return {name: resized(values, side) for name, values in maps.items()}


def explain_frozen(clf, X, background):
    """Compute the maps of the recommended hybrid, whose network has no head of its own."""
    random = clone(clf).set_params(featurizer__weights=None)
    codes = clf.predict(background)
    random.fit(background, codes)  # the same decisions, by a network that has learnt nothing
    maps = {
        "exact": predicted(hybrid_attribution(clf, X)),
        "exact, with background": predicted(hybrid_attribution(clf, X, background=background)),
        "exact, of a network with random weights": predicted(hybrid_attribution(random, X)),
        "occlusion": predicted(occlusion_attribution(clf, X)),
        "random": np.random.default_rng(0).normal(size=(len(X), 7, 7)),
    }
    return {name: resized(values, X.shape[1]) for name, values in maps.items()}


def compare(clf, X, masks, groups, background, steps, explain=explain):
    """Compute a row for each method, and differences between the hybrid's maps and Grad-CAM."""
    maps = explain(clf, X, background)
    chosen = clf.predict_proba(X).argmax(axis=1)
    black = np.zeros_like(X)
    blurred = gaussian_filter(X, sigma=(0, X.shape[1] / 8, X.shape[1] / 8, 0))
    measures = {
        name: {
            "points to the cell": points_to(values, masks),
            "mass on the cell": mass_on(values, masks),
            "deletion (low is good)": area(clf, chosen, X, black, values, steps),
            "insertion (high is good)": area(clf, chosen, blurred, X, values, steps),
        }
        for name, values in maps.items()
    }
    rows = [
        {"map": name} | {key: with_interval(v, groups) for key, v in measured.items()}
        for name, measured in measures.items()
    ]
    if "Grad-CAM of the CNN" not in measures:
        return rows
    cam = measures["Grad-CAM of the CNN"]
    for name in ("hybrid attribution", "the same, with background"):
        own = measures[name]
        rows.append(
            {"map": f"{name} minus Grad-CAM"}
            | {key: with_interval(own[key] - cam[key], groups) for key in cam}
        )
    return rows


def check_complete(clf, X):
    """Compute the largest gap between map plus base and margin, relative to the margin or 1."""
    found = hybrid_attribution(clf, X)
    gap = np.abs(found.maps.sum(axis=(2, 3)) + found.base - found.margin)
    return float((gap / np.maximum(1, np.abs(found.margin))).max())


def seconds_of(clf, X):
    """Time features and heat maps in turn; return the medians."""
    seconds = {"features": [], "heat maps": []}
    for _ in range(5):
        for name, run in (
            ("features", lambda: clf.transform(X)),
            ("heat maps", lambda: hybrid_attribution(clf, X)),
        ):
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(times[1:])) for name, times in seconds.items()}


def main():
    parser = make_parser(__doc__)
    add_data_options(parser)
    add_training_options(parser)
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--recommended", action="store_true", help="the recommended hybrid, frozen")
    parser.set_defaults(image_size=160, epochs=5)
    options = parser.parse_args()
    options.image_size = 64 if options.small else options.image_size
    options.epochs = 1 if options.small else options.epochs
    cells = make_blood_cells(
        8 if options.small else options.subjects,
        8,
        image_size=options.image_size,
        return_masks=True,
        random_state=0,
    )
    split = subject_split(cells.target, cells.groups, test_size=0.3, random_state=0)
    own = network_settings(options)
    if options.recommended:
        del own["normalize"]
        clf = presets.recommended(**own)
    else:
        clf = presets.paper(**own, **training_settings(options))
    clf.fit(cells.images[split.train], cells.target[split.train], groups=cells.groups[split.train])
    X = cells.images[split.test]
    print(f"accuracy on the test subjects: {clf.score(X, cells.target[split.test]):.3f}")
    print(f"the cell covers {cells.masks[split.test].mean():.2f} of a picture")
    rows = compare(
        clf,
        X,
        cells.masks[split.test],
        cells.groups[split.test],
        cells.images[split.train][:64],
        options.steps,
        explain_frozen if options.recommended else explain,
    )
    suffix = "_recommended" if options.recommended else ""
    report(f"attribution{suffix}", __doc__, rows)
    images, target, groups = load_data(options, 8, 8, options.image_size)
    images, target = images[:200], target[:200]
    clf.fit(images, target, groups=groups[:200])
    gap = check_complete(clf, images)
    rows = [{"images": len(images), "classes": len(clf.classes_), "largest relative gap": gap}]
    report(f"attribution_complete{suffix}", "Is the map plus the base equal to the margin?", rows)
    rows = []
    for runtime in ("torch", "auto"):
        settings = network_settings(options) | {"image_size": 64 if options.small else 224}
        if options.recommended:
            del settings["normalize"]
        preset = presets.recommended if options.recommended else presets.frozen
        frozen = preset(**settings, runtime=runtime).fit(X[:40], cells.target[split.test][:40])
        seconds = seconds_of(frozen, np.resize(X, (100, *X.shape[1:])))
        rows.append({"runtime": frozen.featurizer_.runtime_} | seconds)
    for row in rows:
        row["ratio to features by torch"] = row["heat maps"] / rows[0]["features"]
    report(f"attribution_seconds{suffix}", "How long do 100 heat maps take?", rows)


if __name__ == "__main__":
    main()
