"""What do fewer bits cost and save: size, agreement, accuracy, speed and memory?

With --models, fitted models are kept in a folder, and used again: fine-tuning takes long.
"""

import tempfile
from pathlib import Path

import numpy as np
from _common import calibrated, load_data, make_parser, measured, report
from sklearn.model_selection import StratifiedGroupKFold

import effboost
from effboost import ImageSequence, OnnxClassifier, export_onnx, presets
from effboost.backbones import BackboneSpec

# By the parts of a standalone folder, which load NumPy, Pillow and onnxruntime alone.
_ONE_BY_ONE = """
import os
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import numpy as np, onnxruntime
from effboost_parts.onnx._model import OnnxModel
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
images = list(np.load(sys.argv[2]))
start = time.perf_counter()
model = OnnxModel.read(sys.argv[1])
model.run(images[0])
first = time.perf_counter() - start
times = []
for image in images:
    start = time.perf_counter()
    model.run(image)
    times.append(time.perf_counter() - start)
times.sort()
result = {"first image ms": 1000 * first, "next ms": 1000 * times[len(times) // 2]}
"""
_MANY = """
import os
import numpy as np
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[3])])
from effboost import OnnxClassifier
images = np.load(sys.argv[2])
model = OnnxClassifier(sys.argv[1])
model.predict_proba(images[:4])
times = []
for _ in range(3):
    start = time.perf_counter()
    model.predict_proba(images)
    times.append(time.perf_counter() - start)
result = {"images/s": len(images) / min(times)}
"""
_PRESETS = {
    "paper": presets.paper,
    "frozen": presets.frozen,
    "recommended": presets.recommended,
}


def get_model(options, network, head, X, y, groups):
    """Fit a model, or load it from the folder of fitted models."""
    path = options.models and Path(options.models, f"{network}-{head}.effboost")
    if path and path.exists():
        return effboost.load(path)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    weights = options.weights.get(network)
    backbone = network
    if weights is None:
        backbone = BackboneSpec(network, factory=lambda: calibrated(network, 224))
    settings = {"image_size": 64} if options.small else {}
    clf = _PRESETS[head](backbone, weights=weights, random_state=0, **settings)
    clf.fit(X, y, groups=groups)
    if path and weights is not None:
        effboost.save(clf, path)
    return clf


def measure(options, clf, path, test, truth):
    """Measure an exported model."""
    expected = clf.predict_proba(test).argmax(axis=1)
    some = path.with_name("some.npy")
    np.save(some, np.stack([np.asarray(test[i]) for i in range(min(len(test), options.images))]))
    found = OnnxClassifier(path).predict_proba(test).argmax(axis=1)
    one = measured(_ONE_BY_ONE, path, some)
    return {
        "MB": path.stat().st_size / 1e6,
        "agreement": float((found == expected).mean()),
        "accuracy": float((clf.classes_[found] == truth).mean()),
        "images/s, 2 cores": measured(_MANY, path, some, 2)["images/s"],
        "1 core": measured(_MANY, path, some, 1)["images/s"],
        **one,
    }


def parse_options(question):
    """Read the options that say which models are measured, and on which images."""
    parser = make_parser(question)
    parser.add_argument("--data", help="folder of labelled images; default: generated cells")
    parser.add_argument("--target", default="label")
    parser.add_argument("--group", default="group")
    parser.add_argument("--models", help="folder of fitted models")
    parser.add_argument("--images", type=int, default=60, help="for speed and memory")
    parser.add_argument(
        "--model",
        action="append",
        metavar="NETWORK:HEAD",
        help="head: paper (fine-tuned), frozen or recommended; default: lite0 frozen and "
        "recommended. May be repeated",
    )
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="NETWORK=WEIGHTS",
        help='"imagenet" or a file; networks without have random weights',
    )
    options = parser.parse_args()
    options.drop_class = []
    options.weights = dict(pair.split("=", 1) for pair in options.weights)
    if options.small:
        options.images, options.model = 8, ["mobilenet_v3_small:frozen"]
    options.model = options.model or ["efficientnet_lite0:frozen", "efficientnet_lite0:recommended"]
    return options


def export(options, folder, **settings):
    """Export each model in each precision; yield its names, its file and data of its test."""
    images, y, groups = load_data(options, 12, 6, 160)
    X = ImageSequence(images, groups=groups)
    train, test = next(StratifiedGroupKFold(3, shuffle=True, random_state=0).split(y, y, groups))
    for network, head in (pair.split(":") for pair in options.model):
        clf = get_model(options, network, head, X[train], y[train], groups[train])
        for precision in ("float32", "float16", "int8"):
            more = {} if precision == "float32" else {"calibration": X[train], "min_agreement": 0}
            made = Path(folder, f"{network}-{head}-{precision}")
            export_onnx(clf, made, precision=precision, **settings, **more)
            names = {"network": network, "head": head, "precision": precision}
            yield names, clf, made / "model.onnx", X[test], y[test]


def main():
    options = parse_options(__doc__)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for names, clf, path, test, truth in export(options, folder, standalone=True):
            rows.append(names | measure(options, clf, path, test, truth))
            print(rows[-1], flush=True)
    report("edge", __doc__, rows)


if __name__ == "__main__":
    main()
