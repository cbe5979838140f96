"""``effboost explain``: heat maps of the parts of an image that decide its class."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from effboost._utils.escape import escape_invisible
from effboost._utils.stores import redact
from effboost.cli._models import list_inputs, load_model
from effboost.cli._options import add_command, add_folder_options, add_part_options, read_folder
from effboost.cli._output import check_folder

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost explain model.effboost cell.png --out maps
  effboost explain model.effboost new_cells --out maps --class ALL
  effboost explain model.effboost new_cells --out maps --train cells     and the nearest of cells
  effboost explain model.onnx cell.png --out maps          by occlusion: slow, for any model
"""
# Number of maps in memory at a time.
_BLOCK: Final = 16
_N_NEIGHBORS: Final = 4
_OF_TRAIN: Final = ("target", "group", "split", "allow_outside", "part", "drop_class")


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "explain",
        help="write heat maps of the decision",
        description="Write a heat map for each image with the evidence for and against its "
        "predicted class: from the head of the hybrid, or by occlusion if that is not possible.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help=".effboost or .onnx file")
    add(
        "images",
        metavar="IMAGE",
        nargs="+",
        help='files; folders, at any depth; "-" for a list of paths on stdin',
    )
    add("-o", "--out", type=Path, required=True, metavar="FOLDER", help="where to write")
    add("--force", action="store_true", help="overwrite heat maps in --out")
    add("--class", dest="output", metavar="CLASS", help="class to explain (default: predicted)")
    add(
        "--method",
        choices=["auto", "exact", "occlusion"],
        default="auto",
        help="(default: exact if the margin of the head is a sum over positions, else occlusion)",
    )
    add(
        "--train",
        type=Path,
        metavar="DATA",
        help="folder of the images that the model was fitted on: also draw those of each class "
        "that it decides on most alike; the options below describe it",
    )
    add_folder_options(parser)
    add_part_options(parser)
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    check_folder(arguments.out)
    images = list_inputs(arguments.images)
    targets = dict(zip(images, _name_maps(images, arguments.out), strict=True))
    _check_targets(targets.values(), images, force=arguments.force)
    model = load_model(arguments.model)
    output = _check_class(model, arguments.output)
    training = _load_training(model, arguments)
    if training is not None:
        _check_targets(targets.values(), training.paths, force=True)
    from tqdm.auto import tqdm

    arguments.out.mkdir(parents=True, exist_ok=True)
    n_failed = 0
    with tqdm(
        desc="explain", total=len(images), unit="image", leave=None, disable=arguments.quiet
    ) as bar:
        for start in range(0, len(images), _BLOCK):
            block = images[start : start + _BLOCK]
            good = _keep_readable(block, arguments.white_level)
            n_failed += len(block) - len(good)
            if good:
                for image, figure in _draw(model, good, arguments, output, training):
                    figure.savefig(targets[image], dpi=100)
                    bar.update()
            bar.update(len(block) - len(good))
    print(f"{len(images) - n_failed} heat maps written to {arguments.out}")
    return 1 if n_failed else 0


def _check_class(model: Any, name: str | None) -> Any:
    """Return the label with a name; labels may be numbers."""
    if name is None:
        return None
    labels = {str(label): label for label in model.classes_.tolist()}
    if name not in labels:
        raise ValueError(
            f"--class {name!r} is not a class of the model; its classes are {', '.join(labels)}"
        )
    return labels[name]


def _name_maps(images: list[str], folder: Path) -> Iterator[Path]:
    """Yield the path of each heat map: the name of its image, numbered if it is not unique."""
    taken: set[str] = set()
    for image in images:
        stem = name = Path(redact(image)).stem
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        yield folder / f"{name}.png"


def _check_targets(targets: Collection[Path], images: Iterable[str], *, force: bool) -> None:
    """Check that heat maps replace no image, and no other file without --force."""
    sources = {os.path.realpath(image) for image in images}
    for target in targets:
        if os.path.realpath(target) in sources:
            raise FileExistsError(f"{str(target)!r} is one of the images: name another --out")
        if target.exists() and not force:
            raise FileExistsError(f"{str(target)!r} exists: name another --out, or give --force")


def _keep_readable(images: list[str], white_level: float | None) -> list[str]:
    """Return the images that can be read, and print errors for the others."""
    from effboost import ImageSequence
    from effboost.exceptions import ImageDecodeError

    sequence, good = ImageSequence(images, white_level=white_level), []
    for i, image in enumerate(images):
        try:
            sequence.decode(i, lambda image: None)
        except ImageDecodeError as error:
            reason = escape_invisible(error.reason)
            print(f"effboost: error: {redact(image)!r}: {reason}", file=sys.stderr)
        else:
            good.append(image)
    return good


class _Training:
    """Labelled training images, their real paths, and the subjects of images among them."""

    def __init__(self, model: Any, data: Any):
        from effboost.inspection._neighbours import TrainingImages

        self.paths = paths = [os.path.realpath(path) for path in data.paths]
        # An image whose subject is not known is left out itself.
        groups = paths if data.groups is None else data.groups.tolist()
        self._group_of = dict(zip(paths, groups, strict=True))
        labels = {str(label): label for label in model.classes_.tolist()}
        target = [labels.get(name, name) for name in data.target.tolist()]
        self.images = TrainingImages(model, data.images, target, groups)

    def find_groups(self, images: list[str]) -> list[str]:
        paths = [os.path.realpath(image) for image in images]
        return [self._group_of.get(path, path) for path in paths]


def _load_training(model: Any, arguments: argparse.Namespace) -> _Training | None:
    """Read the training images and compute their features."""
    folder = arguments.train
    if folder is None:
        given = [f"--{name.replace('_', '-')}" for name in _OF_TRAIN if getattr(arguments, name)]
        if given:
            raise ValueError(f"{' and '.join(given)} describe the folder of --train: name it, too")
        return None
    from effboost.datasets._layout import find_held_out

    data = read_folder(folder, arguments)
    if arguments.part is None and data.split is not None and find_held_out(data.split.tolist()):
        raise ValueError(
            f"{str(folder)!r} has the splits {', '.join(sorted(set(data.split.tolist())))}: select "
            "those that the model was fitted on by --part"
        )
    return _Training(model, data)


def _draw(
    model: Any,
    images: list[str],
    arguments: argparse.Namespace,
    output: Any,
    training: _Training | None,
) -> Iterator[tuple[str, Any]]:
    """Draw a figure for each image; each has a scale of its own."""
    from matplotlib import pyplot as plt

    from effboost import ImageSequence
    from effboost.inspection import AttributionDisplay, NeighboursDisplay
    from effboost.inspection._heat import explain
    from effboost.inspection._neighbours_display import draw_decision, find_and_picture

    sequence = ImageSequence(images, white_level=arguments.white_level)
    pictures, attribution = explain(model, sequence, arguments.method)
    near = None
    if training is not None:
        groups = training.find_groups(images)
        found, nearest = find_and_picture(training.images, sequence, groups, _N_NEIGHBORS)
        near = NeighboursDisplay(pictures, nearest, found)
    for i, image in enumerate(images):
        display = AttributionDisplay(pictures[[i]], attribution.take(i))
        if near is None:
            figure = display.plot(output=output).figure_
        else:
            figure = plt.figure(figsize=(8, 8), layout="constrained")
            draw_decision(figure, display, near.take(i), output=output)
        yield image, figure
        plt.close(figure)
