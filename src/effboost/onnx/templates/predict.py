"""Classify images by model.onnx, which is in the folder of this file.

    python predict.py cells/ slide.bmp --out results.csv

Needs only numpy, Pillow and onnxruntime. Writes one line for each image: its file, the most
probable class and the probability of each class. If an image cannot be read, an error is printed
to stderr, the other images are still predicted, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = {"bmp", "dib", "gif", "jpe", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp"}
MIN_SIDE, MAX_PIXELS = 8, 89_478_485


def main() -> int:
    """Classify the images that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--out", metavar="FILE", help="CSV to write; default: standard output")
    parser.add_argument("--model", default=Path(__file__).with_name("model.onnx"))
    options = parser.parse_args()
    session = onnxruntime.InferenceSession(options.model, providers=["CPUExecutionProvider"])
    if not options.out:
        return classify(session, options.images, sys.stdout)
    with Path(options.out).open("w", encoding="utf-8", newline="") as out:
        return classify(session, options.images, out)


def classify(session: onnxruntime.InferenceSession, names: list[str], out: TextIO) -> int:
    """Write a line as soon as an image is predicted; return the exit status."""
    status = 0
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["file", "label", *(f"probability_{label}" for label in classes)])
    for path in find_images(names):
        try:
            image = read_image(path)
        except Exception as error:  # decoders raise many kinds of errors
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"predict.py: error: {str(path)!r}: {reason}", file=sys.stderr)
            status = 1
            continue
        label, probabilities = session.run(["label", "probabilities"], {"image": image})
        table.writerow([path, label[0], *(f"{value:.6f}" for value in probabilities[0])])
        out.flush()
    return status


def find_images(names: list[str]) -> Iterator[Path]:
    """Yield each file, and all images in folders, at any depth, sorted by name."""
    for path in map(Path, names):
        if path.is_dir():
            found = (p for p in path.rglob("*") if p.suffix[1:].lower() in SUFFIXES)
            yield from sorted(p for p in found if p.is_file())
        else:
            yield path


def read_image(path: Path) -> np.ndarray[Any, Any]:
    """Read an image as effboost does: upright, RGB, 8 bits a channel, without transparency."""
    with Image.open(path, formats=FORMATS) as opened:
        width, height = opened.size
        if width * height > MAX_PIXELS or min(width, height) < MIN_SIDE:
            raise ValueError(f"is {width} x {height} pixels, too large or too small")
        image = ImageOps.exif_transpose(opened)
        grey = np.asarray(image) if image.mode[0] in "IF" else None
        if grey is None:
            # Otherwise, transparency would change the colours of a palette.
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            return np.asarray(image.convert("RGB"))
    largest = 1.0 if grey.dtype.kind == "f" else 65535.0
    if not (grey.min() >= 0 and grey.max() <= largest):
        raise ValueError(f"its pixels range from {grey.min()} to {grey.max()}, not 0 to {largest}")
    scaled = np.rint(grey * (255 / largest)).astype(np.uint8)
    return np.repeat(scaled[:, :, np.newaxis], 3, axis=2)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
