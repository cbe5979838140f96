"""Options that several commands share, and what they make of them."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

__all__ = [
    "add_command",
    "add_data_options",
    "add_format_option",
    "add_model_options",
    "load_data",
    "make_estimator",
    "positive_number",
]


def add_command(
    commands: Any, name: str, *, help: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add a command whose help ends with examples."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def positive_number(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _trainable(text: str) -> str | int:
    return text if text in ("all", "head") else positive_number(text)


def _crop_size(text: str) -> str | int:
    return text if text == "none" else positive_number(text)


def add_format_option(parser: argparse.ArgumentParser, default: str = "table", **what: str) -> None:
    """Add --format; `what` says what CSV and JSON hold."""
    parser.add_argument(
        "--format",
        choices=["table", "csv", "json"],
        default=default,
        help="; ".join(["of what is printed", *(f"{name}: {text}" for name, text in what.items())])
        + " (default: %(default)s)",
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DATA", type=Path, help="folder with labels.csv, or with class folders")
    add("--target", metavar="COLUMN", help="column of labels.csv with the class")
    add(
        "--group",
        metavar="COLUMN|REGEX",
        help="column with the subject, or a regular expression on the file's name",
    )
    add("--drop-class", action="append", default=[], metavar="CLASS", help="leave a class out")


def load_data(arguments: argparse.Namespace) -> Any:
    """Read the folder that `add_data_options` named."""
    from effboost.datasets import load_image_folder

    data = load_image_folder(
        arguments.data,
        target=arguments.target,
        group=arguments.group,
        drop_classes=arguments.drop_class,
    )
    if data.groups is None:
        warnings.warn(
            "no subjects are known: each image counts as its own, which flatters the result if "
            "several images come from one subject; name them by --group",
            stacklevel=2,
        )
    return data


def add_model_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--preset",
        metavar="NAME",
        help="settings to start from, a function of effboost.presets: paper, paper-code, frozen, "
        "recommended, ... (default: paper)",
    )
    add("--frozen", action="store_true", help="the same as --preset frozen")
    add(
        "--fine-tune",
        action="store_true",
        help="tune the network also where the preset, such as recommended, leaves it as it is",
    )
    add("--backbone", metavar="NAME", help="network (default: what the preset takes)")
    add(
        "--weights",
        metavar="imagenet|none|FILE",
        help='"imagenet", "none" for random ones, or a .pth or .safetensors file '
        "(default: imagenet)",
    )
    add(
        "--epochs",
        type=positive_number,
        metavar="N",
        help="epochs of training (default: what the preset takes)",
    )
    add(
        "--trainable",
        type=_trainable,
        metavar="all|head|N",
        help="what is trained: the whole network, its linear layer, or also the last N stages "
        "(default: what the preset takes)",
    )
    add(
        "--freeze-batch-norm",
        action="store_true",
        help="keep the statistics of batch norms, for weights that have them folded in",
    )
    add(
        "--image-size",
        type=positive_number,
        metavar="PIXELS",
        help="what the network sees (default: what the preset takes)",
    )
    add(
        "--crop-size",
        type=_crop_size,
        metavar="PIXELS|none",
        help="side of the centre crop (default: what the preset takes)",
    )
    add(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="keep features and tuned networks there, for later runs on the same images",
    )
    add("--device", help="where torch computes: cpu, cuda, ... (default: a GPU if there is one)")
    add("--seed", type=int, default=0, help="seed of splits and models (default: %(default)s)")
    add("--quiet", action="store_true", help="no progress bars")


def make_estimator(arguments: argparse.Namespace) -> Any:
    """Build what `add_model_options` describe, not yet fitted."""
    settings = {
        "backbone": arguments.backbone,
        "weights": arguments.weights,
        "fine_tune": arguments.fine_tune or None,
        "image_size": arguments.image_size,
        "crop_size": arguments.crop_size,
        "cache": arguments.cache,
        "device": arguments.device,
    }
    training = {
        "--epochs": ("max_epochs", arguments.epochs),
        "--trainable": ("trainable", arguments.trainable),
        "--freeze-batch-norm": ("freeze_batch_norm", arguments.freeze_batch_norm or None),
    }
    training = {option: pair for option, pair in training.items() if pair[1] is not None}
    settings = {name: value for name, value in settings.items() if value is not None}
    for name in ("weights", "crop_size"):
        if str(settings.get(name, "")).lower() == "none":
            settings[name] = None
    name, preset = _find_preset(arguments)
    estimator = preset(random_state=arguments.seed, verbose=not arguments.quiet, **settings)
    if training and estimator.get_params()["featurizer__training"] is None:
        asked = "--frozen" if arguments.preset is None else f"--preset {name}"
        raise ValueError(f"{asked} trains nothing: leave out {' and '.join(training)}")
    return estimator.set_params(
        **{f"featurizer__training__{name}": value for name, value in training.values()}
    )


def _find_preset(arguments: argparse.Namespace) -> tuple[str, Any]:
    # Torch takes seconds to load: --help and wrong options are answered before that.
    from effboost import presets

    asked = arguments.preset or ("frozen" if arguments.frozen else "paper")
    name = asked.replace("-", "_")
    if name not in presets.__all__:
        known = ", ".join(other.replace("_", "-") for other in presets.__all__)
        raise ValueError(f"there is no preset {asked!r}; the presets are {known}")
    if arguments.frozen and name != "frozen":
        raise ValueError(f"--frozen and --preset {asked} exclude each other: leave one out")
    return asked, getattr(presets, name)
