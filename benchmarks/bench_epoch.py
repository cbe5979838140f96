"""What does one epoch of fine-tuning cost on a CPU, and how does reusing views affect accuracy?"""

import numpy as np
import torch
from _common import (
    add_data_options,
    add_training_options,
    interleaved_seconds,
    load_data,
    make_parser,
    network_settings,
    report,
    training_settings,
)
from bench_training import PlainImages
from skorch import NeuralNetClassifier
from torch import nn
from torchvision.models import get_model

from effboost import CNNClassifier, ImageSequence, presets
from effboost.datasets import make_blood_cells
from effboost.model_selection import subject_split

BATCH = 40


def plain_network(trainable):
    torch.manual_seed(0)
    network = get_model("efficientnet_b0", weights=None, num_classes=2)
    if trainable != "all":
        for stage in network.features[:-trainable]:
            stage.requires_grad_(False)
    return network


def plain_loop(data, trainable):
    network = plain_network(trainable).train()
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adamax(p for p in network.parameters() if p.requires_grad)
    loss_of = nn.CrossEntropyLoss()
    for pixels, target in loader:
        optimizer.zero_grad()
        loss_of(network(pixels), target).backward()
        optimizer.step()


def plain_skorch(data):
    NeuralNetClassifier(
        plain_network("all"),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adamax,
        max_epochs=1,
        batch_size=BATCH,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    ).fit(data, None)


def featurizer(side, **params):
    return presets.paper(
        "efficientnet_b0", weights=None, crop_size=None, image_size=side, **params
    ).featurizer


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
        yield name, f"{np.mean(scores):.3f} ({spread} over {options.seeds} seeds)"


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=2)
    add_data_options(parser)
    add_training_options(parser)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    side = 224
    if options.small:
        options.images, options.rounds, options.epochs, side = 16, 1, 2, 32
    cells = make_blood_cells(4, options.images // 4, image_size=side, random_state=0)
    X, codes = cells.images, (cells.target == "HEM").astype(int)
    plain = PlainImages(X, codes, side)
    networks = {}

    def tune(name, **params):
        tuned = featurizer(side, **params).set_params(random_state=0)
        networks[name] = tuned.fit(X, cells.target)

    partly = {"trainable": 2, "max_epochs": options.epochs}
    contenders = {
        "plain loop, all layers": lambda: plain_loop(plain, "all"),
        "plain skorch, all layers": lambda: plain_skorch(plain),
        "plain loop, last 2 stages": lambda: plain_loop(plain, 2),
        "effboost, all layers": lambda: tune("effboost, all layers", max_epochs=1),
        "effboost, last 2 stages": lambda: tune("effboost, last 2 stages", **partly),
    }
    whole = interleaved_seconds(contenders, options.rounds)
    # Only the epochs of effboost: its fit also estimates batch norms at the end.
    seconds = whole | {
        name: float(np.mean([epoch["dur"] for epoch in tuned.history_]))
        for name, tuned in networks.items()
    }
    rows = [
        {
            "contender": name,
            "s an epoch": seconds[name],
            "images/s": len(X) / seconds[name],
            "to plain loop": seconds[name] / seconds["plain loop, all layers"],
            "accuracy": "",
        }
        for name in contenders
    ]
    if options.weights != "none":
        rows += [
            dict.fromkeys(rows[0], "") | {"contender": name, "accuracy": accuracy}
            for name, accuracy in compare_views(options)
        ]
    report("epoch", __doc__, rows)


if __name__ == "__main__":
    main()
