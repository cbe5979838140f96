"""Classify images by model.onnx, which is in the folder of this file.

    python predict.py cells/ slide.bmp --out results.csv
    python predict.py --watch arriving/ --out results.csv

Needs only numpy, Pillow and onnxruntime. Writes one line for each image: its file, the most
probable class, the probability of each class and, if the model knows it, whether the image is
unlike the training images. If an image cannot be read, an error is printed
to stderr, the other images are still predicted, and the exit status is 1.

With --watch, images that arrive in a folder are classified until Ctrl-C or SIGTERM. A file is read
when it has stopped growing. Rows are appended; after a restart, files that have a row are left out.

Files are listed, read and checked by the modules in effboost_parts, which are those of effboost.
"""

from __future__ import annotations

import argparse
import io
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from effboost._familiarity import ALPHA
from effboost._images.decoding import Decoder
from effboost._images.errors import UnreadableError
from effboost._images.limits import check_side
from effboost._utils.csv_rows import write_row
from effboost._utils.escape import escape_invisible
from effboost._utils.probabilities import find_fault
from effboost._utils.stores import as_local_path
from effboost.datasets._files import check_folder, find_images, warn_of_others
from effboost.exceptions import EffboostError
from effboost.onnx._model import OnnxModel
from effboost.onnx._watch import resume_table, watch_folder


def main() -> int:
    """Classify the images that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE_OR_FOLDER")
    add("--out", metavar="FILE", help="CSV to write; default: standard output")
    add("--model", default=Path(__file__).with_name("model.onnx"))
    add(
        "--white-level",
        type=float,
        metavar="VALUE",
        help="value of white in images with more than 8 bits, such as 4095 for 12 bits",
    )
    add("--force", action="store_true", help="overwrite --out")
    add("--watch", metavar="FOLDER", help="classify what arrives in a folder; needs --out")
    add("--interval", type=float, default=2.0, metavar="SECONDS", help="between looks; default: 2")
    options = parser.parse_args()
    if not 0 <= options.interval <= threading.TIMEOUT_MAX:
        parser.error(f"--interval {options.interval} is not a number of seconds, 0 or more")
    if bool(options.images) == bool(options.watch):
        parser.error("name images and folders, or one folder by --watch")
    if options.watch and not options.out:
        parser.error("--watch needs --out: rows are appended to that file")
    warnings.simplefilter("always")
    warnings.simplefilter("ignore", ResourceWarning)  # such as of a file that Ctrl-C left unclosed
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        model, decoder = OnnxModel.read(options.model), Decoder(options.white_level)
        # File names that are not UTF-8 are written as they are.
        if options.watch:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            check_folder(Path(options.watch))  # before a table is written
            known = resume_table(options.out, name_columns(model))
            with Path(options.out).open(
                "a", encoding="utf-8", errors="surrogateescape", newline=""
            ) as out:
                arriving = watch_folder(Path(options.watch), known, options.interval)
                return classify(model, decoder, arriving, out)
        if options.out:
            if Path(options.out).exists() and not options.force:
                raise FileExistsError(
                    f"{options.out!r} exists: name another --out, or give --force"
                )
            with Path(options.out).open(
                "w", encoding="utf-8", errors="surrogateescape", newline=""
            ) as out:
                return classify_all(model, decoder, options.images, out)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="surrogateescape", newline="")
        return classify_all(model, decoder, options.images, sys.stdout)
    except (EffboostError, OSError) as error:
        _print("error", error)
        return 1


def classify_all(model: OnnxModel, decoder: Decoder, names: list[str], out: TextIO) -> int:
    """Write the table of files and folders; return the exit status."""
    write_row(out, name_columns(model))
    # Each image once.
    return classify(model, decoder, dict.fromkeys(list_images(names)), out)


def name_columns(model: OnnxModel) -> list[str]:
    """Name the columns of the table."""
    classes = model.description.classes.tolist()
    flags = ["familiarity", "familiar", "reasons"] if model.description.usual else []
    return ["file", "label", *(f"probability_{label}" for label in classes), *flags]


def classify(model: OnnxModel, decoder: Decoder, paths: Iterable[str], out: TextIO) -> int:
    """Write a line as soon as an image is predicted; return the exit status."""
    status, n_images = 0, 0
    classes = model.description.classes.tolist()
    for path in paths:
        n_images += 1
        try:
            probabilities, flags = predict(model, read_image(decoder, path))
            fault = find_fault(probabilities[None], 1, len(classes))
            if fault is not None:
                raise UnreadableError(f"the model cannot predict it, for {fault}")
        except UnreadableError as error:
            _print("error", f"{path!r}: {error}")
            status = 1
            continue
        label = classes[probabilities.argmax()]
        write_row(out, [path, label, *(f"{value:.6f}" for value in probabilities), *flags])
        out.flush()
    if not n_images:
        _print("error", "there are no images: name image files, or folders with images")
    return status if n_images else 1


def predict(
    model: OnnxModel, pixels: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Return the probabilities of an image, and what the columns for flags hold."""
    usual = model.description.usual
    if usual is None:
        return model.run(pixels), []
    probabilities, p_value, outside = model.run_with_familiarity(pixels)
    table = usual.judge(np.array([p_value]), outside[None], ALPHA)
    familiar, reasons = str(bool(table.familiar[0])).lower(), " ".join(table.reasons[0])
    return probabilities, [f"{p_value:.6f}", familiar, reasons]


def list_images(names: list[str]) -> Iterator[str]:
    """Yield each file, and all images in folders, at any depth, sorted by name."""
    for name in names:
        name = as_local_path(name)
        folder = Path(name)
        if not folder.is_dir():
            yield name
            continue
        images, others = find_images(folder)
        warn_of_others(others, folder)
        yield from (str(folder / image) for image in images)


def read_image(decoder: Decoder, path: str) -> npt.NDArray[np.uint8]:
    """Read an image as effboost does: upright, RGB, 8 bits a channel, without transparency."""

    def as_array(image: Any) -> npt.NDArray[np.uint8]:
        check_side(image)
        return np.asarray(image)

    return decoder.read_file(path, as_array)


def _show_warning(message: Any, *_: Any) -> None:
    _print("warning", str(message).replace("white_level=", "--white-level "))


def _print(kind: str, message: Any) -> None:
    print(f"predict.py: {kind}: {escape_invisible(message)}", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
