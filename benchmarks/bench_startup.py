"""How long does it take to load a model and classify the first image?"""

import statistics
import tempfile
from pathlib import Path

import joblib
import torch
from _common import calibrated, make_parser, measured, report, write_cells

from effboost import presets

_IMPORT = """
start = time.perf_counter()
import effboost
result = {"s": time.perf_counter() - start, "torch": "torch" in sys.modules}
"""
_EFFBOOST = """
start = time.perf_counter()
import joblib
clf = joblib.load(sys.argv[1])
clf.predict_proba([sys.argv[2]])
result = {"s": time.perf_counter() - start}
"""
_TORCHVISION = """
start = time.perf_counter()
import torch
from PIL import Image
from torchvision.models import get_model
from torchvision.transforms import v2
network = get_model("efficientnet_b0")
network.load_state_dict(torch.load(sys.argv[1], weights_only=True))
steps = v2.Compose([v2.Resize((224, 224)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
with torch.inference_mode():
    network.eval()(steps(Image.open(sys.argv[2]).convert("RGB"))[None]).softmax(1)
result = {"s": time.perf_counter() - start}
"""


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if options.small:
        options.rounds = 1
    with tempfile.TemporaryDirectory() as folder:
        paths, y, _ = write_cells(folder, 16)
        clf = presets.frozen("efficientnet_b0", weights=None, random_state=0).fit(paths, y)
        model, weights = Path(folder, "model.joblib"), Path(folder, "weights.pth")
        joblib.dump(clf, model)
        torch.save(calibrated("efficientnet_b0", 64).state_dict(), weights)
        found = {"import effboost": [], "torchvision, one image": [], "effboost, one image": []}
        for _ in range(options.rounds):
            found["import effboost"].append(measured(_IMPORT))
            found["torchvision, one image"].append(measured(_TORCHVISION, weights, paths[0]))
            found["effboost, one image"].append(measured(_EFFBOOST, model, paths[0]))
    assert not found["import effboost"][0]["torch"]
    rows = [
        {
            "contender": name,
            "s": statistics.median(run["s"] for run in runs),
            "peak MB": statistics.median(run["peak MB"] for run in runs),
        }
        for name, runs in found.items()
    ]
    report("startup", __doc__, rows)


if __name__ == "__main__":
    main()
