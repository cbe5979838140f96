"""``effboost explain``: where in a picture a model finds its reasons, as PNG."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from effboost.cli._models import list_inputs, load_model
from effboost.cli._options import add_command
from effboost.cli._output import check_folder

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost explain model.effboost cell.png --out maps
  effboost explain model.effboost new_cells --out maps --class ALL
  effboost explain model.onnx cell.png --out maps          hides parts: slow, for any model
"""
# Maps that are in memory at a time.
_BLOCK: Final = 16


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "explain",
        help="write heat maps of what decided",
        description="Write a picture for each image: what speaks for its predicted class, and what "
        "against it, by the boosted trees' own decision, or by hiding parts of the image where "
        "the head is no booster.",
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
    add("--class", dest="output", metavar="CLASS", help="class to explain (default: predicted)")
    add(
        "--method",
        choices=["auto", "tree_shap", "occlusion"],
        default="auto",
        help="(default: tree_shap where the head is a booster, else occlusion)",
    )
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    check_folder(arguments.out)
    images = list_inputs(arguments.images)
    model = load_model(arguments.model)
    output = _check_class(model, arguments.output)
    from tqdm.auto import tqdm

    targets = dict(zip(images, _name_pictures(images, arguments.out), strict=True))
    arguments.out.mkdir(parents=True, exist_ok=True)
    n_failed = 0
    with tqdm(
        desc="explain", total=len(images), unit="image", leave=None, disable=arguments.quiet
    ) as bar:
        for start in range(0, len(images), _BLOCK):
            block = images[start : start + _BLOCK]
            good = _keep_readable(block)
            n_failed += len(block) - len(good)
            if good:
                for image, figure in _draw(model, good, arguments.method, output):
                    figure.savefig(targets[image], dpi=100)
                    bar.update()
            bar.update(len(block) - len(good))
    print(f"{len(images) - n_failed} pictures written to {arguments.out}")
    return 1 if n_failed else 0


def _check_class(model: Any, name: str | None) -> Any:
    """Return the label that is called so: a number, perhaps."""
    if name is None:
        return None
    labels = {str(label): label for label in model.classes_.tolist()}
    if name not in labels:
        raise ValueError(f"--class {name!r} is not a class of the model: {', '.join(labels)}")
    return labels[name]


def _name_pictures(images: list[str], folder: Path) -> Iterator[Path]:
    """Return a name for each picture: the image's, and a number where two have one name."""
    taken: set[str] = set()
    for image in images:
        stem = name = Path(image).stem
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        yield folder / f"{name}.png"


def _keep_readable(images: list[str]) -> list[str]:
    """Leave images out that cannot be read, and say so."""
    from effboost import ImageSequence
    from effboost.exceptions import ImageDecodeError

    sequence, good = ImageSequence(images), []
    for i, image in enumerate(images):
        try:
            sequence.decode(i)
        except ImageDecodeError as error:
            print(f"effboost: error: {image!r}: {error.reason}", file=sys.stderr)
        else:
            good.append(image)
    return good


def _draw(model: Any, images: list[str], method: str, output: Any) -> Iterator[tuple[str, Any]]:
    """Return a figure for each image; each has a scale of its own."""
    from matplotlib import pyplot as plt

    from effboost.inspection import AttributionDisplay
    from effboost.inspection._heat import explain

    pictures, attribution = explain(model, images, method)
    for i, image in enumerate(images):
        display = AttributionDisplay.from_attribution(
            pictures[[i]], attribution.take(i), output=output
        )
        yield image, display.figure_
        plt.close(display.figure_)
