"""Does the attribution point to the cell, and does hiding what it marks change the mind?"""

import numpy as np
from _common import add_training_options, make_parser, network_settings, report
from scipy.special import expit

from effboost import presets
from effboost.datasets import make_blood_cells
from effboost.inspection import hybrid_attribution
from effboost.model_selection import subject_split


def random_maps(shape):
    return np.random.default_rng(0).normal(size=shape)


def hits(maps, masks):
    """Share of maps whose strongest position lies on the cell."""
    h, w = maps.shape[1:]
    side = masks.shape[1]
    best = maps.reshape(len(maps), -1).argmax(axis=1)
    rows = ((best // w) + 0.5) * side / h
    columns = ((best % w) + 0.5) * side / w
    return masks[np.arange(len(maps)), rows.astype(int), columns.astype(int)].mean()


def deletion(clf, X, maps, steps):
    """Area under the probability of the predicted class while marked squares are blackened."""
    n, h, w = maps.shape
    side = X.shape[1]
    order = np.argsort(-maps.reshape(n, -1), axis=1)
    first = clf.predict_proba(X)
    chosen = first.argmax(axis=1)
    curve = [first[np.arange(n), chosen]]
    hidden, done = X.copy(), 0
    for stop in np.linspace(0, h * w, steps + 1).astype(int)[1:]:
        for i in range(n):
            for place in order[i, done:stop]:
                row, column = divmod(place, w)
                rows = slice(row * side // h, (row + 1) * side // h)
                columns = slice(column * side // w, (column + 1) * side // w)
                hidden[i, rows, columns] = 0
        done = stop
        curve.append(clf.predict_proba(hidden)[np.arange(n), chosen])
    return float(np.mean(curve))


def main():
    parser = make_parser(__doc__)
    add_training_options(parser)
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--steps", type=int, default=7)
    options = parser.parse_args()
    options.image_size = 32 if options.small else max(options.image_size, 160)
    subjects = 12 if options.small else options.subjects
    cells = make_blood_cells(
        subjects, 8, image_size=options.image_size, return_masks=True, random_state=0
    )
    split = subject_split(cells.target, cells.groups, test_size=0.3, random_state=0)
    clf = presets.frozen(**network_settings(options))
    clf.fit(cells.images[split.train], cells.target[split.train])
    X, masks = cells.images[split.test], cells.masks[split.test]
    found = hybrid_attribution(clf, X)
    assert np.allclose(found.maps.sum(axis=(2, 3)) + found.base, found.margin, atol=1e-3)
    # For the class that was predicted.
    sign = np.where(expit(found.margin[:, 0]) > 0.5, 1, -1)[:, None, None]
    own = found.maps[:, 0] * sign
    chance = random_maps(own.shape)
    rows = [
        {
            "map": name,
            "points to the cell": float(hits(maps, masks)),
            "deletion, area": deletion(clf, X, maps, options.steps),
            "the least marked first, area": deletion(clf, X, -maps, options.steps),
        }
        for name, maps in (("hybrid attribution", own), ("random", chance))
    ]
    rows.append(
        {
            "map": "share of the picture that is cell",
            "points to the cell": float(masks.mean()),
            "deletion, area": "",
            "the least marked first, area": "",
        }
    )
    print(f"accuracy on the test subjects: {clf.score(X, cells.target[split.test]):.3f}")
    report("attribution", __doc__, rows)


if __name__ == "__main__":
    main()
