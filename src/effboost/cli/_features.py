"""``effboost features``: write the features of images to parquet files in a stream."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from effboost._utils.atomic_write import name_path
from effboost._utils.stores import redact
from effboost.cli._models import can_read_again, list_inputs, load_model, number_images
from effboost.cli._options import (
    add_command,
    add_format_option,
    add_network_options,
    add_white_level_option,
    make_estimator,
    positive_number,
)
from effboost.cli._output import check_new_folder, output_path, print_facts
from effboost.cli._rejects import RejectFile, add_reject_options, check_rejects

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost features cells --out features.parquet                  of EfficientNet-B0
  effboost features cells --model model.effboost --out f.parquet  of a model's own network
  effboost features cells --preset recommended --out f.parquet    all stages and orientations
  effboost features cells --out f.parquet --resume                continue a run
  effboost features cells --out f.parquet --on-error skip --rejects rejects.csv
"""
# Images that are read and computed together.
_BLOCK: Final = 64
_TOLERANCE: Final = 1e-3


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "features",
        help="write features of images to parquet files, resumable",
        description="Write the features of images into a folder of parquet files, which is read "
        "as one table with the columns path, position and one for each feature. Memory holds the "
        "rows of one file. Needs the extra parquet.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add(
        "images",
        metavar="IMAGE",
        nargs="+",
        help='files; folders, at any depth; URLs; "-" for a list of them on stdin',
    )
    add(
        "-o",
        "--out",
        type=output_path,
        required=True,
        metavar="FOLDER|URL",
        help="where to write",
    )
    add("--model", type=Path, metavar="FILE", help=".effboost file whose network is used")
    add_network_options(parser, preset="frozen")
    add_white_level_option(parser)
    add_reject_options(parser, rows=False)
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume", action="store_true", help="continue with the images that --out does not contain"
    )
    existing.add_argument(
        "--force", action="store_true", help="replace the parquet files of a former run in --out"
    )
    add(
        "--block-size",
        type=positive_number,
        default=4096,
        metavar="N",
        help="images per file; at most one file is lost on a kill (default: %(default)s)",
    )
    add_format_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    check_rejects(arguments)
    check_new_folder(arguments.out, force=arguments.resume or arguments.force)
    from effboost._feature_files import FeatureFiles

    images = list_inputs(arguments.images)
    _check_names(images)
    model = _find_network(arguments, images)
    files = FeatureFiles(str(arguments.out), model.get_feature_names_out().tolist())
    start = time.perf_counter()
    with name_path(arguments.out), ExitStack() as stack:
        positions = number_images(images)
        written: dict[str, int] = {}
        if arguments.force:
            files.clear()
        elif arguments.resume:
            written, sample = files.read()
            _check_same_network(model, sample, arguments)
            files.renumber(written, positions)
        rejects = RejectFile.open(arguments, stack, positions)
        rejected = set() if rejects is None else rejects.images
        rest = [
            (i, image)
            for i, image in enumerate(images)
            if redact(image) not in written and redact(image) not in rejected
        ]
        n_written = _write(model, rest, len(images), files, rejects, arguments)
    seconds = time.perf_counter() - start
    if rejects is not None and rejects.images:
        print(f"effboost: {rejects.describe(len(images))}", file=sys.stderr)
    facts = [
        ("images", len(images)),
        ("written", n_written),
        ("written before", len(written)),
        ("rejected", None if rejects is None else len(rejects.images)),
        ("features", len(model.get_feature_names_out())),
        ("seconds", round(seconds, 1)),
        ("images per second", round(n_written / seconds, 1)),
        ("written to", redact(str(arguments.out))),
    ]
    print_facts(facts, arguments)


def _check_names(images: list[str]) -> None:
    for image in images:
        try:
            image.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the name {image!r} is not UTF-8, which parquet files need: rename the file"
            ) from error


def _find_network(arguments: argparse.Namespace, images: list[str]) -> Any:
    """Return the fitted estimator whose features are computed."""
    if arguments.model is not None:
        options = ("preset", "backbone", "weights", "image_size", "crop_size")
        named = [name for name in options if getattr(arguments, name) is not None]
        if named:
            raise ValueError(
                f"--model has its own network: leave out --{named[0].replace('_', '-')}"
            )
        model = load_model(arguments.model)
        if not hasattr(model, "get_feature_names_out"):
            raise ValueError(
                f"{str(arguments.model)!r} has no features of its own: name a .effboost file of a "
                "HybridClassifier or a featurizer"
            )
        return model
    arguments.preset = arguments.preset or "frozen"
    featurizer = make_estimator(arguments).featurizer
    if featurizer is None or featurizer.training is not None:
        raise ValueError(
            f"--preset {arguments.preset} trains its network, which needs labels: choose frozen or "
            "recommended, or a trained model by --model"
        )
    # Decodes no image: the network is only loaded.
    return featurizer.set_params(random_state=arguments.seed, verbose=0).fit(images[:1])


def _write(
    model: Any,
    rest: list[tuple[int, str]],
    n_images: int,
    files: Any,
    rejects: RejectFile | None,
    arguments: argparse.Namespace,
) -> int:
    """Write the features of the images that are left, and return their number."""
    import numpy as np
    from tqdm.auto import tqdm

    n_written = 0
    with tqdm(
        desc="features",
        total=n_images,
        initial=n_images - len(rest),
        unit="image",
        leave=None,
        disable=arguments.quiet,
    ) as bar:
        for start in range(0, len(rest), arguments.block_size):
            part = rest[start : start + arguments.block_size]
            rows, positions = [], []
            for block in _compute(model, part, arguments):
                rows.append(block.features)
                positions.extend(block.positions.tolist())
                for reject in block.rejects:
                    _reject(part[reject.position], reject, rejects)
                bar.update(len(block) + len(block.rejects))
            if positions:
                kept = [part[i] for i in positions]
                names = [redact(image) for _, image in kept]
                files.write(names, [i for i, _ in kept], np.concatenate(rows))
                n_written += len(kept)
    return n_written


def _compute(
    model: Any, part: list[tuple[int, str]], arguments: argparse.Namespace
) -> Iterator[Any]:
    """Yield blocks of features, with positions in the part; the error of an image names its own."""
    from effboost import ImageSequence, iter_features
    from effboost.exceptions import ImageDecodeError

    images = ImageSequence([image for _, image in part], white_level=arguments.white_level)
    try:
        yield from iter_features(model, images, on_error=arguments.on_error, block_size=_BLOCK)
    except ImageDecodeError as error:
        position, image = part[error.index]
        raise type(error)(position, redact(image), error.reason) from error.__cause__


def _reject(image: tuple[int, str], reject: Any, rejects: RejectFile | None) -> None:
    import dataclasses

    if rejects is not None:
        rejects.write(dataclasses.replace(reject, path=redact(image[1]), position=image[0]))


def _check_same_network(model: Any, sample: Any, arguments: argparse.Namespace) -> None:
    """Compute one row again, to refuse files that were written by another network."""
    if sample is None or not can_read_again(sample.path):
        return
    import numpy as np

    from effboost import ImageSequence, extract_features

    images = ImageSequence([sample.path], white_level=arguments.white_level)
    now = extract_features(model, images).features[0]
    scale = max(float(np.abs(sample.features).max()), float(np.finfo(np.float32).tiny))
    difference = float(np.abs(now - sample.features).max()) / scale
    if difference > _TOLERANCE:
        raise ValueError(
            f"{str(arguments.out)!r} has other features of {sample.path!r} than this network: it "
            "was written by another network, or the image has changed; name another --out"
        )
