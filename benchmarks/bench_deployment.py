"""What does a deployed model cost: installed size, memory, time to the first image?"""

import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import joblib
from _common import calibrated, frozen_featurizer, make_parser, measured, report, write_cells
from xgboost import XGBClassifier

import effboost
from effboost import HybridClassifier

# Each loads its model and classifies the images one by one.
_TIMED = """
start = time.perf_counter()
{load}
classify(sys.argv[2])
first = time.perf_counter() - start
times = []
for path in sys.argv[3:]:
    start = time.perf_counter()
    classify(path)
    times.append(time.perf_counter() - start)
times.sort()
result = {{"first image s": first, "next image ms": 1000 * times[len(times) // 2]}}
"""
_HYBRID = """
import joblib
clf = joblib.load(sys.argv[1])
classify = lambda path: clf.predict_proba([path])
"""
_CLASSIFIER = """
from effboost import OnnxClassifier
clf = OnnxClassifier(sys.argv[1])
classify = lambda path: clf.predict_proba([path])
"""
_SCRIPT = """
sys.path.insert(0, sys.argv[1])
import predict
model, decoder = predict.OnnxModel.read(sys.argv[1] + "/model.onnx"), predict.Decoder()
classify = lambda path: predict.predict(model, predict.read_image(decoder, path))
"""
_CORE = ("effboost", "torch", "torchvision", "xgboost", "skorch", "scikit-learn", "onnx", "tqdm")


def installed_mb(names):
    """Compute the size of packages and their requirements in this environment."""
    seen, queue = {}, list(names)
    while queue:
        name = re.sub(r"[-_.]+", "-", queue.pop()).lower()
        if name in seen:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            seen[name] = 0
            continue
        places = (Path(str(found.locate_file(file))) for file in found.files or [])
        seen[name] = sum(place.stat().st_size for place in places if place.is_file())
        needed = [line for line in found.requires or [] if "extra ==" not in line]
        queue.extend(re.match(r"[\w.-]+", line)[0] for line in needed)
    return sum(seen.values()) / 1e6


def install(folder):
    """Install the requirements of a standalone folder in a clean environment; return s and MB."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        python = Path(place, "Scripts" if os.name == "nt" else "bin", "python")
        before = size_mb(place)
        start = time.perf_counter()
        command = [python, "-m", "pip", "install", "--quiet", "-r", folder / "requirements.txt"]
        subprocess.run([*map(str, command)], check=True)
        return time.perf_counter() - start, size_mb(place) - before


def size_mb(folder):
    return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file()) / 1e6


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument(
        "--install", action="store_true", help="install in a clean environment (needs a network)"
    )
    options = parser.parse_args()
    if options.small:
        options.images = 12
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, y, _ = write_cells(folder, options.images)
        network, contenders = calibrated("efficientnet_b0", 64), {}
        for runtime in ("torch", "onnxruntime"):
            featurizer = frozen_featurizer(network, 224, runtime=runtime)
            clf = HybridClassifier(featurizer, XGBClassifier(), random_state=0).fit(paths, y)
            joblib.dump(clf, folder / f"{runtime}.joblib")
            contenders[f"HybridClassifier, {runtime}"] = _HYBRID, folder / f"{runtime}.joblib"
        standalone = effboost.export_onnx(clf, folder / "standalone", standalone=True)
        contenders["OnnxClassifier"] = _CLASSIFIER, standalone / "model.onnx"
        contenders["predict.py"] = _SCRIPT, standalone
        sizes = {
            "OnnxClassifier": installed_mb(["scikit-learn", "pillow", "onnxruntime"]),
            "predict.py": installed_mb(["numpy", "pillow", "onnxruntime"]),
        }
        rows = []
        for contender, (load, model) in contenders.items():
            found = measured(_TIMED.format(load=load), model, *paths)
            file = standalone / "model.onnx" if Path(model).is_dir() else Path(model)
            found["model MB"] = file.stat().st_size / 1e6
            found["installed MB"] = sizes.get(contender) or installed_mb(_CORE)
            rows.append({"contender": contender, **found})
        if options.install:
            seconds, size = install(standalone)
            print(f"clean environment for predict.py: {seconds:.1f} s, {size:.0f} MB")
    report("deployment", __doc__, rows)


if __name__ == "__main__":
    main()
