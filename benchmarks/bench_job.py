"""How long does a job of the size of C-NMC 2019 take: fit on files, then predict others?"""

import tempfile

import numpy as np
from _common import make_parser, measured, report, write_cells

_COMMON = """
import numpy as np
folder, side = sys.argv[1], int(sys.argv[2])
with np.load(folder + "/cells.npz") as cells:
    fit, new = cells["fit"].tolist(), cells["new"].tolist()
    y, truth = cells["y"], cells["truth"]
start = time.perf_counter()
"""
_EFFBOOST = (
    _COMMON
    + """
from effboost import presets
clf = presets.frozen("efficientnet_b0", weights=None, image_size=side, random_state=0)
clf.fit(fit, y)
middle = time.perf_counter()
proba = clf.predict_proba(new)
end = time.perf_counter()
right = float((clf.classes_[proba.argmax(axis=1)] == truth).mean())
result = {"fit s": middle - start, "predict s": end - middle, "accuracy": right}
"""
)
_EMBETTER = (
    _COMMON
    + """
from sklearn.pipeline import make_pipeline
from xgboost import XGBClassifier
from bench_files import embetter_pipeline
names, codes = np.unique(y, return_inverse=True)
model = make_pipeline(*embetter_pipeline("efficientnet_b0"), XGBClassifier(learning_rate=0.35))
model.fit(fit, codes)
middle = time.perf_counter()
proba = model.predict_proba(new)
end = time.perf_counter()
right = float((names[proba.argmax(axis=1)] == truth).mean())
result = {"fit s": middle - start, "predict s": end - middle, "accuracy": right}
"""
)


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--fit", type=int, default=8000)
    parser.add_argument("--predict", type=int, default=2661)
    options = parser.parse_args()
    side, original = 224, 450
    if options.small:
        options.fit, options.predict, side, original = 40, 20, 64, 96
    with tempfile.TemporaryDirectory() as folder:
        paths, y, groups = write_cells(folder, options.fit + options.predict, original)
        # New subjects, with about this number of images.
        order = np.argsort(groups, kind="stable")
        fit, new = order[: options.fit], order[options.fit :]
        paths = np.array(paths)
        np.savez(folder + "/cells.npz", fit=paths[fit], new=paths[new], y=y[fit], truth=y[new])
        rows = []
        for name, script in (("effboost", _EFFBOOST), ("embetter + XGBClassifier", _EMBETTER)):
            row = {"contender": name} | measured(script, folder, side)
            rows.append(row | {"s": row["fit s"] + row["predict s"]})
    for row in rows:
        row["to embetter"] = row["s"] / rows[1]["s"]
    report("job", __doc__, rows)


if __name__ == "__main__":
    main()
