"""What does one epoch of fine-tuning cost on a CPU, and how does reusing views affect accuracy?

Each contender runs in a process of its own, in turn. `--before` names the source folder of another
version of effboost (`git worktree add`), which then is a contender, too; the losses of its first
steps are compared with those of this version.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from functools import partial

import numpy as np
import torch
from _common import (
    add_data_options,
    add_training_options,
    calibrated,
    load_data,
    make_parser,
    network_settings,
    report,
    training_settings,
)
from bench_training import PlainImages
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from effboost import CNNClassifier, ImageSequence, presets
from effboost.datasets import make_blood_cells
from effboost.model_selection import subject_split

BATCH = 40
FITS = {
    "paper": presets.paper,
    "paper, growing from 112 pixels": partial(presets.paper, initial_image_size=112),
    "paper, 3 epochs": partial(presets.paper, max_epochs=3),
    "recommended": partial(presets.recommended, fine_tune=True),
}


class PlainNetwork(nn.Module):
    """torchvision's or timm's network as it is, with two classes."""

    def __init__(self, options):
        super().__init__()
        self.network = calibrated(options.backbone, options.image_size)
        *_, last = (part for part in self.network.modules() if isinstance(part, nn.Linear))
        self.head = nn.Linear(last.out_features, 2)
        self.frozen = [
            part
            for part in self.network.modules()
            if options.freeze_batch_norm and isinstance(part, nn.BatchNorm2d)
        ]
        if options.trainable != "all":
            for stage in self.network.features[: -int(options.trainable)]:
                stage.requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        for norm in self.frozen:
            norm.eval()
        return self

    def forward(self, x):
        return self.head(self.network(x))


class StepLosses(Callback):
    def initialize(self):
        self.losses = []
        return self

    def on_batch_end(self, net, batch, training, loss, **_):
        if training:
            self.losses.append(float(loss))


def run_plain_loop(options, cells, *, compiled=False):
    codes = (cells.target == "HEM").astype(int)
    data = PlainImages(cells.images, codes, options.image_size)
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True)
    network = PlainNetwork(options).train()
    optimizer = torch.optim.Adamax(p for p in network.parameters() if p.requires_grad)
    run = torch.compile(network) if compiled else network
    loss_of = nn.CrossEntropyLoss()
    seconds = []
    for _ in range(options.epochs):
        start = time.perf_counter()
        for pixels, target in loader:
            optimizer.zero_grad()
            loss_of(run(pixels), target).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds, []


def run_compiled_loop(options, cells):
    return run_plain_loop(options, cells, compiled=True)


def run_plain_skorch(options, cells):
    codes = (cells.target == "HEM").astype(int)
    net = NeuralNetClassifier(
        PlainNetwork(options),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adamax,
        max_epochs=options.epochs,
        batch_size=BATCH,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    ).fit(PlainImages(cells.images, codes, options.image_size), None)
    return net.history[:, "dur"], []


def run_effboost(options, cells):
    losses = StepLosses()
    tuned = presets.paper(
        options.backbone,
        weights=None if options.weights == "none" else options.weights,
        crop_size=None,
        image_size=options.image_size,
        max_epochs=options.epochs,
        lr=options.lr,
        batch_size=options.batch_size,
        trainable=options.trainable if options.trainable == "all" else int(options.trainable),
        freeze_batch_norm=options.freeze_batch_norm,
        callbacks=[losses],
    ).featurizer
    tuned.set_params(random_state=0).fit(cells.images, cells.target)
    # Only the epochs: a fit also estimates batch norms at the end.
    return [epoch["dur"] for epoch in tuned.history_], losses.losses


def run_fit(options):
    """Fit a whole model on some subjects, and predict images of others."""
    X, y, groups = load_data(options, 40, 10, options.image_size)
    X, y, groups = ImageSequence(X), np.asarray(y), np.asarray(groups)
    split = subject_split(y, groups, test_size=0.5, random_state=0)
    train, test = (
        rows[np.linspace(0, len(rows) - 1, min(len(rows), options.images), dtype=int)]
        for rows in (split.train, split.test)
    )
    weights = None if options.weights == "none" else options.weights
    clf = FITS[options.fit](options.backbone, weights=weights, random_state=options.seed)
    start = time.perf_counter()
    clf.fit(X[train], y[train], groups=groups[train])
    seconds = time.perf_counter() - start
    return {"s": seconds, "images": len(train), "accuracy": clf.score(X[test], y[test])}


CHILDREN = {
    "plain loop": run_plain_loop,
    "plain skorch": run_plain_skorch,
    "compiled loop": run_compiled_loop,
    "effboost": run_effboost,
}


def run_child(options):
    if options.child == "fit":
        found = run_fit(options)
    else:
        side = options.image_size
        cells = make_blood_cells(4, options.images // 4, image_size=side, random_state=0)
        seconds, losses = CHILDREN[options.child](options, cells)
        found = {"seconds": seconds, "losses": losses}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found | {"peak": peak}))


def start_child(name, arguments, source=None):
    """Run one contender in its own process, and return what it printed."""
    environment = dict(os.environ)
    if source:
        environment["PYTHONPATH"] = source
    command = [sys.executable, __file__, "--child", name, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def compare_speed(options):
    """Yield a row for each network, way of training and contender."""
    names = ["plain loop", "plain skorch", "effboost"]
    for backbone, ways in options.cases.items():
        for way in ways:
            contenders = dict.fromkeys(names) | {"effboost": None}
            if options.compiled and way == []:
                contenders["compiled loop"] = None
            if options.before:
                contenders["effboost before"] = options.before
            shared = ["--backbone", backbone, *way]
            for name in ("images", "epochs", "image_size"):
                shared += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
            found = {name: [] for name in contenders}
            for _ in range(options.rounds):
                for name, source in contenders.items():
                    child = name.removesuffix(" before")
                    found[name].append(start_child(child, shared, source))
            for row in summarize(backbone, way, found, options):
                print(*row.values(), sep="  ", flush=True)
                yield row


def summarize(backbone, way, found, options):
    def middle(runs, measure):
        return statistics.median(measure(run) for run in runs)

    # The first epoch of the compiled loop compiles.
    epoch = {
        name: middle(runs, lambda run: statistics.median(run["seconds"]))
        for name, runs in found.items()
    }
    first = {name: middle(runs, lambda run: run["seconds"][0]) for name, runs in found.items()}
    for name in found:
        yield {
            "network": backbone,
            "training": " ".join(way) or "all layers",
            "contender": name,
            "s an epoch": epoch[name],
            "first epoch": first[name],
            "images/s": options.images / epoch[name],
            "speed to plain loop": epoch["plain loop"] / epoch[name],
            "speed to before": epoch.get("effboost before", float("nan")) / epoch[name],
            "peak MB": middle(found[name], lambda run: run["peak"]),
        }


def compare_losses(options):
    """Yield the greatest relative difference to the losses of the version before, in 20 steps."""
    for backbone, ways in options.cases.items():
        for way in ways:
            side = min(options.image_size, 96)
            given = ["--backbone", backbone, *way, "--images", "160", "--epochs", "1"]
            given += ["--batch-size", "8", "--image-size", str(side)]
            now, again, before = (
                np.array(start_child("effboost", given, source)["losses"])
                for source in (None, None, options.before)
            )
            yield {
                "network": backbone,
                "training": " ".join(way) or "all layers",
                "relative difference to before": f"{np.max(np.abs(now - before) / before):.1e}",
                "difference to a second run": f"{np.max(np.abs(now - again)):.1e}",
            }


def compare_fits(options):
    """Yield the time and accuracy of whole fits with several seeds."""
    contenders = {"effboost": None} | ({"before": options.before} if options.before else {})
    data = ["--backbone", options.backbone, "--weights", options.weights]
    data += ["--images", str(options.images)]
    for given in ("data", "target", "group"):
        value = getattr(options, given)
        data += [f"--{given}", value] if value else []
    for name in FITS if options.fit is None else [options.fit]:
        found = {contender: [] for contender in contenders}
        for seed in range(options.seeds):
            for contender, source in contenders.items():
                arguments = [*data, "--fit", name, "--seed", str(seed)]
                found[contender].append(start_child("fit", arguments, source))
        for contender, runs in found.items():
            scores = [run["accuracy"] for run in runs]
            yield {
                "fit": name,
                "contender": contender,
                "images": runs[0]["images"],
                "s a fit": statistics.median(run["s"] for run in runs),
                "accuracy of each seed": " ".join(f"{score:.3f}" for score in scores),
                "peak MB": max(run["peak"] for run in runs),
            }


def compare_views(options):
    """Compute the accuracy with new views in each epoch, and with reused views."""
    X, y, groups = load_data(options, 40, 10, options.image_size)
    X, y, groups = ImageSequence(X), np.asarray(y), np.asarray(groups)
    split = subject_split(y, groups, test_size=0.3, random_state=0)
    settings = network_settings(options) | training_settings(options)
    for n_views in (options.epochs, 5, 1):
        scores = []
        for seed in range(options.seeds):
            tuned = presets.paper(**settings, trainable=2, frozen_views=n_views).featurizer
            cnn = CNNClassifier(tuned.set_params(random_state=seed))
            cnn.fit(X[split.train], y[split.train])
            scores.append(cnn.score(X[split.test], y[split.test]))
        name = f"last 2 stages, {n_views} views in {options.epochs} epochs"
        spread = f"{min(scores):.3f} to {max(scores):.3f}"
        accuracy = f"{np.mean(scores):.3f} ({spread} over {options.seeds} seeds)"
        yield {"contender": name, "accuracy": accuracy}


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    add_data_options(parser)
    add_training_options(parser)
    parser.set_defaults(epochs=3, image_size=224)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--views", action="store_true", help="compare reused views instead")
    parser.add_argument("--fits", action="store_true", help="compare whole fits instead")
    parser.add_argument("--fit", choices=FITS, help="only this one of the whole fits")
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--before", metavar="SRC", help="source folder of another version")
    parser.add_argument("--compiled", action="store_true", help="also torch.compile (minutes)")
    parser.add_argument("--trainable", default="all")
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--child", choices=[*CHILDREN, "fit"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(options)
        return
    frozen = ["--freeze-batch-norm"]
    options.cases = {
        "efficientnet_lite0": [frozen, []],
        "efficientnet_b0": [[], frozen, ["--trainable", "2"]],
    }
    if options.small:
        options.images, options.rounds, options.epochs, options.image_size = 16, 1, 2, 32
        options.cases = {"efficientnet_b0": [[]], "efficientnet_lite0": [frozen]}
    if options.views:
        report("epoch_views", __doc__, list(compare_views(options)))
        return
    if options.fits:
        report("epoch_fits", __doc__, list(compare_fits(options)))
        return
    report("epoch", __doc__, list(compare_speed(options)))
    if options.before:
        report("epoch_losses", "The same losses in 20 steps?", list(compare_losses(options)))


if __name__ == "__main__":
    main()
