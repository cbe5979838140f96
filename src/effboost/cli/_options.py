"""Options that several commands share, and their processing."""

from __future__ import annotations

import argparse
import os
import re
import warnings
from pathlib import Path
from typing import Any

__all__ = [
    "add_command",
    "add_data_options",
    "add_folder_options",
    "add_format_option",
    "add_model_options",
    "add_network_options",
    "add_part_options",
    "add_white_level_option",
    "find_sites",
    "load_data",
    "make_estimator",
    "positive_number",
    "read_folder",
]


def add_command(
    commands: Any, name: str, *, help: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add a command with examples at the end of its help."""
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
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _trainable(text: str) -> str | int:
    return text if text in ("all", "head") else positive_number(text)


def _crop_size(text: str) -> str | int:
    return text if text == "none" else positive_number(text)


def add_format_option(parser: argparse.ArgumentParser, default: str = "table", **what: str) -> None:
    """Add the options of the output format; `what` describes CSV and JSON."""
    parser.add_argument(
        "--format",
        choices=["table", "csv", "json"],
        default=default,
        help="; ".join(["output format", *(f"{name}: {text}" for name, text in what.items())])
        + " (default: %(default)s)",
    )
    parser.add_argument(
        "--escape-formulas",
        action="store_true",
        help="in CSV, prefix cells that a spreadsheet would treat as formulas with '",
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DATA", type=Path, help="folder with labels.csv, or with class folders")
    add_folder_options(parser)
    add_part_options(parser)


def add_part_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select images of a folder."""
    add = parser.add_argument
    add(
        "--part",
        action="append",
        metavar="SPLIT",
        help="only use the images of this split, such as train; can be repeated",
    )
    add("--drop-class", action="append", default=[], metavar="CLASS", help="leave a class out")


def add_folder_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for reading a folder of images."""
    add = parser.add_argument
    add("--target", metavar="COLUMN", help="column of labels.csv with the class")
    add(
        "--group",
        metavar="COLUMN|REGEX",
        help="column with the subject, or a regular expression for the file names",
    )
    add("--split", metavar="COLUMN", help="column with the split (default: split or fold, if any)")
    add(
        "--allow-outside",
        action="store_true",
        help="accept files outside of the folder in labels.csv",
    )
    add_white_level_option(parser)


def add_white_level_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--white-level",
        type=_positive_float,
        metavar="VALUE",
        help="value of white in images with more than 8 bits, such as 4095 for 12 bits (default: "
        "65535; 1 for floats)",
    )


def _positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def load_data(arguments: argparse.Namespace) -> Any:
    """Read the folder described by the options of `add_data_options`."""
    data = read_folder(arguments.data, arguments)
    if arguments.part is None and data.split is not None:
        _refuse_held_out(data.split, arguments.data)
    if data.groups is None:
        warnings.warn(
            "no subjects are known: each image is its own subject, which makes the result too "
            "optimistic if several images come from one subject; use --group",
            stacklevel=2,
        )
    return data


def read_folder(folder: Any, arguments: argparse.Namespace) -> Any:
    """Read a folder of labelled images as the options of `add_folder_options` say."""
    from effboost.datasets import load_image_folder

    return load_image_folder(
        folder,
        target=arguments.target,
        group=arguments.group,
        split=arguments.split,
        parts=arguments.part,
        drop_classes=arguments.drop_class,
        allow_outside=arguments.allow_outside,
        white_level=arguments.white_level,
    )


def find_sites(data: Any, site: str, root: Path) -> list[str]:
    """Return the site of each image, from a column of the table or from the paths below `root`."""
    if data.table:
        if site not in data.table:
            raise ValueError(
                f"labels.csv has no column {site!r} for the site; its columns are "
                f"{', '.join(list(data.table)[:20])}"
            )
        from effboost._utils.columns import is_no_name

        column = list(data.table[site])
        missing = [i for i, name in enumerate(column) if is_no_name(name)]
        if missing:
            raise ValueError(
                f"{len(missing)} of the {len(column)} images have no site in column {site!r}, the "
                f"first is {data.paths[missing[0]]!r}: name their sites, or leave them out"
            )
        return [str(name) for name in column]
    try:
        found = [re.search(site, Path(os.path.relpath(p, root)).as_posix()) for p in data.paths]
        names = [(match and match[1]) or "" for match in found]
    except (re.error, IndexError) as error:
        raise ValueError(
            f"--site {site!r} must be a regular expression with one group in parentheses ({error})"
        ) from error
    if not all(names):
        path = data.paths[names.index("")]
        raise ValueError(f"--site {site!r} finds no site in {path!r}")
    return names


def _refuse_held_out(split: Any, folder: Path) -> None:
    """Raise an error if validation or test images would be used without --part."""
    from effboost.datasets._layout import find_held_out

    held_out = find_held_out(split.tolist())
    if held_out:
        names = sorted(set(split.tolist()) - {""})
        raise ValueError(
            f"{str(folder)!r} has the splits {', '.join(names[:10])}, and a model that is trained "
            f"on {held_out[0]!r} cannot be tested on it: select splits by --part, such as "
            f"{' '.join(f'--part {name}' for name in names if name not in held_out) or '--part'}"
        )


def add_network_options(parser: argparse.ArgumentParser, *, preset: str) -> None:
    """Add the options that describe a network; `preset` is the name of the default."""
    add = parser.add_argument
    add(
        "--preset",
        metavar="NAME",
        help="initial settings, a function of effboost.presets: paper, paper-code, frozen, "
        f"recommended, ... (default: {preset})",
    )
    add("--backbone", metavar="NAME", help="network (default: that of the preset)")
    add(
        "--weights",
        metavar="imagenet|none|FILE",
        help='"imagenet", "none" for random ones, or a .pth or .safetensors file '
        "(default: imagenet)",
    )
    add(
        "--image-size",
        type=positive_number,
        metavar="PIXELS",
        help="input size of the network (default: that of the preset)",
    )
    add(
        "--crop-size",
        type=_crop_size,
        metavar="PIXELS|none",
        help="side of the centre crop (default: that of the preset)",
    )
    add(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="keep features and fine-tuned networks there for later runs on the same images",
    )
    add("--device", help="device of torch: cpu, cuda, ... (default: a GPU if there is one)")
    add("--seed", type=int, default=0, help="seed of splits and models (default: %(default)s)")
    add("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(
        frozen=False, fine_tune=False, epochs=None, trainable=None, freeze_batch_norm=False
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe an estimator and its training."""
    add = parser.add_argument
    add_network_options(parser, preset="paper")
    add("--frozen", action="store_true", help="the same as --preset frozen")
    add(
        "--fine-tune",
        action="store_true",
        help="fine-tune the network even if the preset, such as recommended, does not",
    )
    add(
        "--epochs",
        type=positive_number,
        metavar="N",
        help="epochs of training (default: that of the preset)",
    )
    add(
        "--trainable",
        type=_trainable,
        metavar="all|head|N",
        help="what is trained: the whole network, its linear layer, or also the last N stages "
        "(default: that of the preset)",
    )
    add(
        "--freeze-batch-norm",
        action="store_true",
        help="keep the statistics of batch norms, for weights with folded batch norms",
    )


def make_estimator(arguments: argparse.Namespace) -> Any:
    """Build the unfitted estimator described by the options of `add_model_options`."""
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
    # Imported late, since torch takes seconds to load.
    from effboost import presets

    asked = arguments.preset or ("frozen" if arguments.frozen else "paper")
    name = asked.replace("-", "_")
    if name not in presets.__all__:
        known = ", ".join(other.replace("_", "-") for other in presets.__all__)
        raise ValueError(f"there is no preset {asked!r}; the presets are {known}")
    if arguments.frozen and name != "frozen":
        raise ValueError(f"--frozen and --preset {asked} cannot be combined: leave one out")
    return asked, getattr(presets, name)
