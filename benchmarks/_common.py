"""Data, options and reports of the benchmarks."""

import argparse
import copy
import functools
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import stats

from effboost import ImageFeaturizer, ImageTransform
from effboost.backbones import build_backbone, get_backbone_spec
from effboost.datasets import load_image_folder, make_blood_cells

RESULTS = Path(__file__).parent / "results"


def make_parser(question):
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--small", action="store_true", help="a size that takes seconds")
    return parser


def add_data_options(parser):
    parser.add_argument("--data", help="folder of labelled images; default: generated cells")
    parser.add_argument("--target")
    parser.add_argument("--group")
    parser.add_argument("--drop-class", action="append", default=[])


def add_training_options(parser):
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--weights", default="none", help='"imagenet", "none" or a file')
    parser.add_argument("--normalize", default="unit")
    parser.add_argument("--freeze-batch-norm", action="store_true")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--folds", type=int, default=5)


def network_settings(options):
    """Return the parameters that frozen and fine-tuned featurizers share."""
    return {
        "backbone": options.backbone,
        "weights": None if options.weights == "none" else options.weights,
        "normalize": options.normalize,
        "image_size": options.image_size,
        "random_state": 0,
    }


def training_settings(options):
    """Return the parameters of training."""
    return {
        "crop_size": None,
        "max_epochs": options.epochs,
        "lr": options.lr,
        "freeze_batch_norm": options.freeze_batch_norm,
    }


def load_data(
    options, n_subjects, images_per_subject, image_size, difficulty="easy", random_state=0
):
    """Load images, target and groups from the given folder, or generate them."""
    if options.data:
        data = load_image_folder(
            options.data,
            target=options.target,
            group=options.group,
            drop_classes=options.drop_class,
        )
        return data.paths, data.target, data.groups
    cells = make_blood_cells(
        n_subjects,
        images_per_subject,
        image_size=image_size,
        difficulty=difficulty,
        random_state=random_state,
    )
    return cells.images, cells.target, cells.groups


def calibrated(name, side, weights=None):
    """Build a network; with random weights, fit its batch norms, to avoid denormal signals."""
    network = build_backbone(get_backbone_spec(name), weights, seed=0)
    if weights is not None:
        return network
    torch.manual_seed(0)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(8, 3, side, side))
    return network.eval()


def without_head(network):
    """Return a copy that ends at its features."""
    network = copy.deepcopy(network)
    network.classifier = torch.nn.Identity()
    return network


def frozen_featurizer(network, side, **params):
    """Build effboost's featurizer on the same weights."""
    return ImageFeaturizer(
        functools.partial(copy.deepcopy, network),
        weights=None,
        training=None,
        transform=ImageTransform(crop_size=None, image_size=side),
        **params,
    )


def export_float(body, side):
    """Export as a tutorial would, with a batch of float tensors as input."""
    file = io.BytesIO()
    example = torch.rand(2, 3, side, side)
    program = torch.onnx.export(
        body, (example,), dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    file.write(program.model_proto.SerializeToString())
    return file.getvalue()


def write_cells(folder, n, side=450):
    """Write generated cells as BMP files; return their paths, labels and subjects."""
    per_subject = -(-n // 60)
    paths, target, groups = [], [], []
    while len(paths) < n:
        # Two subjects at a time, one of each class: all would not fit into memory.
        cells = make_blood_cells(2, per_subject, image_size=side, random_state=len(paths))
        for pixels in cells.images:
            paths.append(str(Path(folder, f"{len(paths):05d}.bmp")))
            Image.fromarray(pixels).save(paths[-1])
        target.extend(cells.target)
        groups.extend(f"{len(paths)}-{group}" for group in cells.groups)
    return paths[:n], np.array(target)[:n], np.array(groups)[:n]


def measured(script, *args):
    """Run Python code in a separate process; return its JSON output and its peak MB."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED.format(script=script), *map(str, args)],
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


# Not ru_maxrss, which a process inherits from its parent.
_MEASURED = """
import json, sys, time
def peak_mb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
{script}
result["peak MB"] = peak_mb()
print(json.dumps(result))
"""


def interleaved_seconds(contenders, rounds, *, warm_up=False):
    """Time each contender in turn, `rounds` times; return the median of each."""
    if warm_up:
        for run in contenders.values():
            run()
    seconds = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def paired_difference(found, first, measure=None):
    """Format the difference between reports on the same folds, with its interval over subjects.

    The difference is in accuracy, or in the mean of what `measure` returns for each image.
    """
    difference = _image_differences(found, first, measure)
    subjects, inverse = np.unique(found[0].groups, return_inverse=True)
    sums, counts = np.bincount(inverse, difference), np.bincount(inverse)
    draws = np.random.default_rng(0).multinomial(
        len(subjects), np.full(len(subjects), 1 / len(subjects)), size=2000
    )
    low, high = np.quantile((draws @ sums) / (draws @ counts), [0.025, 0.975])
    return f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def difference_of_draws(found, first, measure=None):
    """Format the difference over several data sets, each with its own reports.

    The interval is over the data sets: subjects of one set are tested with the same models, and
    are not independent.
    """
    pairs = zip(found, first, strict=True)
    means = [_image_differences(a, b, measure).mean() for a, b in pairs]
    mean, half = np.mean(means), stats.t.ppf(0.975, len(means) - 1) * stats.sem(means)
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def _image_differences(found, first, measure):
    measure = measure or (lambda report: (report.y_pred == report.y_true).astype(float))
    return np.mean([measure(a) - measure(b) for a, b in zip(found, first, strict=True)], axis=0)


def image_log_loss(report):
    """Compute the log-loss of each image, clipped as in scikit-learn."""
    columns = np.searchsorted(report.classes, report.y_true)
    given = report.probabilities[np.arange(len(columns)), columns]
    return -np.log(np.clip(given, np.finfo(given.dtype).eps, 1))


def report(name, question, rows):
    """Print rows of equal keys as a table and write them to results/<name>.json."""
    cells = [[_cell(value) for value in row.values()] for row in rows]
    table = [list(rows[0]), *cells]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    print(f"\n{question}")
    for line in table:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))
    RESULTS.mkdir(exist_ok=True)
    packages = (
        "effboost",
        "torch",
        "torchvision",
        "scikit-learn",
        "xgboost",
        "skorch",
        "onnxruntime",
    )
    content = {
        "question": question,
        "rows": rows,
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def _cell(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)
