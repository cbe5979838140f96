"""Is a small network enough? Accuracy, calibration, speed and size of networks with real weights.

The paper's head and the recommended one, frozen and tuned, on the same folds by subject for all
networks, drawn again for each repeat.
"""

import os
import subprocess
import sys
import tempfile
import time
from itertools import chain

import numpy as np
import safetensors.torch
from _common import add_data_options, load_data, make_parser, report

from effboost import ImageSequence, evaluate, presets
from effboost.backbones import build_backbone, get_backbone_spec
from effboost.model_selection import SubjectKFold

METRICS = ("accuracy", "calibration_error", "auroc")


def load_images(options):
    """Load images with groups, or generate them; at most `options.limit` of each subject."""
    X, y, groups = load_data(options, 12, 4, 96)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(y))
    seen, kept = {}, []
    for i in order:
        seen[groups[i]] = seen.get(groups[i], 0) + 1
        if not options.limit or seen[groups[i]] <= options.limit:
            kept.append(i)
    kept = np.sort(kept)
    return ImageSequence([X[i] for i in kept], groups=groups[kept]), y[kept]


def recipes(name, weights, options):
    settings = {
        "weights": weights,
        "image_size": options.image_size,
        "random_state": 0,
        "crop_size": None,
    }
    # The weights of the shared MobileNetV2 have their batch norms folded in.
    norms = {"freeze_batch_norm": True} if name == "mobilenet_v2" and weights != "imagenet" else {}
    # Not None, which would replace the preset's own size by that of the network's training.
    own = settings if options.image_size else settings | {"image_size": 320}
    found = {
        "paper's head, frozen": presets.frozen(name, **settings),
        "recommended, frozen": presets.recommended(name, **own),
    }
    if options.tuned:
        tuned = settings | norms | {"normalize": "backbone", "max_epochs": options.epochs}
        found["paper, tuned"] = presets.paper(name, **tuned)
        found["recommended, tuned"] = presets.recommended(
            name, fine_tune=True, **(settings | norms)
        )
    return found


def measure_accuracy(clf, images, y, options):
    """Return a report for each repeat, and the mean seconds of a fold."""
    start = time.perf_counter()
    reports = [
        evaluate(clf, images, y, cv=SubjectKFold(options.folds, random_state=repeat))
        for repeat in range(options.repeats)
    ]
    return reports, (time.perf_counter() - start) / options.folds / options.repeats


_SPEED = """
import sys, time
import numpy as np
from effboost import presets
from effboost.datasets import make_blood_cells
name, weights, side, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
weights = None if weights == "none" else weights
X = make_blood_cells(4, -(-n // 4), image_size=side, random_state=0).images[:n]
F = presets.frozen(name, weights=weights, image_size=side, random_state=0).featurizer.fit(X)
F.transform(X[:4])
seconds = []
for _ in range(5):
    start = time.perf_counter()
    F.transform(X)
    seconds.append(time.perf_counter() - start)
print(len(X) / np.median(seconds))
"""


def images_per_second(name, weights, side, n_images, cores):
    """Measure the extraction of features in a process that is limited to some cores."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    done = subprocess.run(
        [sys.executable, "-c", _SPEED, name, str(weights or "none"), str(side), str(n_images)],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )
    return float(done.stdout)


def size_of(name, weights):
    """Count the parameters, with the classifier of ImageNet, and the MB of a file with them."""
    network = build_backbone(get_backbone_spec(name), weights, seed=0)
    state = network.state_dict()
    n_parameters = sum(p.numel() for p in network.parameters())
    return n_parameters, len(safetensors.torch.save(state)) / 1e6


def main():
    parser = make_parser(__doc__.partition("\n")[0])
    add_data_options(parser)
    parser.add_argument(
        "--backbones",
        nargs="+",
        default=["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"],
        metavar="NAME[=FILE]",
        help="networks, each with ImageNet weights or those of a file",
    )
    parser.add_argument("--image-size", type=int, help="default: that of the network's training")
    parser.add_argument("--limit", type=int, default=0, help="images of each subject (0: all)")
    parser.add_argument("--tuned", action="store_true", help="tuned networks, too")
    parser.add_argument("--epochs", type=int, default=5, help="of the paper's training")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--name", default="backbones", help="name of the file with results")
    options = parser.parse_args()
    n_images = 192
    if options.small:
        options.backbones, options.image_size = ["efficientnet_lite0"], 32
        options.folds, options.repeats, n_images = 2, 1, 8
    images, y = load_images(options)
    rows = []
    for given in options.backbones:
        name, _, file = given.partition("=")
        weights = file or "imagenet"
        side = options.image_size or get_backbone_spec(name).image_size
        n_parameters, megabytes = size_of(name, weights)
        speeds = [images_per_second(name, weights, side, n_images, n) for n in (1, 2)]
        for recipe, clf in recipes(name, weights, options).items():
            with tempfile.TemporaryDirectory() as cache:
                clf.set_params(featurizer__cache=cache)
                reports, seconds = measure_accuracy(clf, images, y, options)
            row = {"network": name, "recipe": recipe}
            for metric in METRICS:
                values = [r.metrics[metric].value for r in chain(reports) if metric in r.metrics]
                row[metric] = f"{np.mean(values):.3f}" if values else "-"
            row |= {
                "s a fold": f"{seconds:.1f}",
                "images/s, 1 core": f"{speeds[0]:.0f}",
                "images/s, 2 cores": f"{speeds[1]:.0f}",
                "parameters": n_parameters,
                "MB": f"{megabytes:.1f}",
            }
            rows.append(row)
            print("  ".join(map(str, row.values())), flush=True)
    report(options.name, __doc__.partition("\n")[0], rows)


if __name__ == "__main__":
    main()
