"""What the benchmarks share: data, options, results as a table and as JSON."""

import argparse
import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

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
    """Give the parameters that frozen and fine-tuned featurizers share."""
    return {
        "backbone": options.backbone,
        "weights": None if options.weights == "none" else options.weights,
        "normalize": options.normalize,
        "image_size": options.image_size,
        "random_state": 0,
    }


def training_settings(options):
    """Give the parameters of training."""
    return {
        "crop_size": None,
        "max_epochs": options.epochs,
        "lr": options.lr,
        "freeze_batch_norm": options.freeze_batch_norm,
    }


def load_data(options, n_subjects, images_per_subject, image_size, difficulty="easy"):
    """Give images, target and groups: of the folder that was named, or generated."""
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
        random_state=0,
    )
    return cells.images, cells.target, cells.groups


def interleaved_seconds(contenders, rounds, *, warm_up=False):
    """Time each contender in turn, `rounds` times; give the median of each."""
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


def report(name, question, rows):
    """Print rows of equal keys as a table and write them to results/<name>.json."""
    cells = [[_cell(value) for value in row.values()] for row in rows]
    table = [list(rows[0]), *cells]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    print(f"\n{question}")
    for line in table:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))
    RESULTS.mkdir(exist_ok=True)
    packages = ("effboost", "torch", "torchvision", "scikit-learn", "xgboost", "skorch")
    content = {
        "question": question,
        "rows": rows,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def _cell(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)
