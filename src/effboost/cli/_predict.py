"""``effboost predict``: predict classes and probabilities of images in a stream."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

from effboost._utils.atomic_write import name_path
from effboost._utils.stores import open_url, redact
from effboost.cli._cluster import add_cluster_options, open_client
from effboost.cli._models import (
    can_read_again,
    keep_bytes,
    list_inputs,
    load_model,
    number_images,
)
from effboost.cli._options import (
    add_command,
    add_format_option,
    add_white_level_option,
    positive_number,
)
from effboost.cli._output import check_new, output_path
from effboost.cli._rejects import RejectFile, add_reject_options, check_rejects
from effboost.cli._rows import Recorded, RowWriter, has_flags, make_writer, read_recorded

__all__ = ["add_parser"]

_OTHER_TABLES: Final = (".json", ".xlsx", ".xls", ".parquet")
_EXAMPLES = """\
  effboost predict model.effboost new_cells                       a folder, at any depth
  effboost predict model.onnx a.png b.bmp --format table          without loading torch
  effboost predict model.effboost new_cells --out p.csv           written block by block ...
  effboost predict model.effboost new_cells --out p.csv --resume  ... and continued
  effboost predict model.effboost new_cells --out p.csv --on-error skip --rejects rejects.csv
  effboost predict model.effboost new_cells --out p.csv --workers 4
  find . -name '*.tif' | effboost predict model.effboost - --format json
"""
# For rounded digits, and for runtimes that add in another order.
_TOLERANCE: Final = 1e-3
_ROUNDED: Final = 1e-6


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "predict",
        help="classify images, in bounded memory and resumable",
        description="Write the class and the probabilities of each image as a row of CSV or a line "
        "of JSON, block by block. For an image that cannot be read, the row has the error, and "
        "the exit status is 1; with --on-error skip, it becomes a row of --rejects instead.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help=".effboost or .onnx file")
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
        metavar="FILE|URL",
        help="where to write (default: stdout)",
    )
    add_format_option(parser, default="csv", json="one object a line")
    add_white_level_option(parser)
    add_reject_options(parser, rows=True)
    add_cluster_options(parser)
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume",
        action="store_true",
        help="continue with the images that --out does not contain yet",
    )
    existing.add_argument("--force", action="store_true", help="overwrite --out")
    add(
        "--block-size",
        type=positive_number,
        default=64,
        metavar="N",
        help="images per block; at most one block is lost on a kill (default: %(default)s)",
    )
    add(
        "--no-flags",
        action="store_true",
        help="do not flag images that are unlike the training images",
    )
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    _check_out(arguments)
    check_rejects(arguments)
    images = list_inputs(arguments.images)
    model = load_model(arguments.model)
    flags = _shows_flags(model, arguments)
    writer = make_writer(
        arguments.format, model, images, escape_formulas=arguments.escape_formulas, flags=flags
    )
    with name_path(arguments.out), ExitStack() as stack:
        recorded = Recorded()
        if arguments.resume and arguments.out.exists():
            _check_continues(model)
            recorded = read_recorded(arguments.out, writer)
            _check_same_model(model, recorded, arguments.out, arguments.white_level)
        rejects = RejectFile.open(arguments, stack, number_images(images))
        file = _open(arguments.out, recorded, stack)
        client = stack.enter_context(open_client(arguments))
        predict = partial(_predict, model, client=client, flags=flags, arguments=arguments)
        _write(predict, images, writer, file, recorded, rejects, arguments)
    if rejects is not None and rejects.images:
        print(f"effboost: {rejects.describe(len(images))}", file=sys.stderr)
    if recorded.n_failed:
        print(
            f"effboost: {recorded.n_failed} images could not be read, see their rows",
            file=sys.stderr,
        )
    return 1 if recorded.n_failed else 0


def _shows_flags(model: Any, arguments: argparse.Namespace) -> bool:
    """Return whether the output has flags: if the model can, and a continued file has them."""
    if arguments.no_flags or not hasattr(model, "check_familiarity"):
        return False
    is_continued = arguments.resume and arguments.out.is_file()
    return not is_continued or has_flags(arguments.out)


def _check_out(arguments: argparse.Namespace) -> None:
    if arguments.out is not None:
        check_new(arguments.out, force=arguments.force or arguments.resume)
        suffix = Path(str(arguments.out)).suffix.lower()
        if suffix in _OTHER_TABLES and not (suffix == ".json" and arguments.format == "json"):
            raise ValueError(
                f"--out {redact(str(arguments.out))!r} would be CSV: name it .csv, or give "
                "--format json and a name with .json"
            )
    if not arguments.resume:
        return
    if arguments.out is None:
        raise ValueError("--resume needs --out, since printed rows cannot be read back")
    if isinstance(arguments.out, str):
        raise ValueError("--resume needs a file of this machine, since a store cannot extend files")
    if arguments.format == "table":
        raise ValueError("--resume reads CSV and JSON, not tables: leave out --format table")


def _open(out: Path | str | None, recorded: Recorded, stack: ExitStack) -> TextIO:
    if out is None:
        keep_bytes(sys.stdout)
        return sys.stdout
    if isinstance(out, str):
        binary = stack.enter_context(open_url(out))
        text = io.TextIOWrapper(binary, newline="", encoding="utf-8", errors="surrogateescape")
        stack.callback(text.detach)  # writes the rest; the store's file is closed after it
        return text
    if recorded.size:
        # Remove an incomplete row.
        with out.open("r+b") as whole:
            whole.truncate(recorded.size)
    # File names may not be UTF-8; their bytes are written unchanged.
    file = out.open(
        "a" if recorded.size else "w", newline="", encoding="utf-8", errors="surrogateescape"
    )
    return stack.enter_context(file)


def _write(
    predict: Callable[[list[str]], Iterator[Any]],
    images: list[str],
    writer: RowWriter,
    file: TextIO,
    recorded: Recorded,
    rejects: RejectFile | None,
    arguments: argparse.Namespace,
) -> None:
    """Write a row for each image, or one in the reject table; count the errors in `recorded`."""
    from tqdm.auto import tqdm

    if not recorded.size:
        writer.write_header(file)
    rejected = set() if rejects is None else rejects.images
    rest = [
        (i, image)
        for i, image in enumerate(images)
        if redact(image) not in recorded.images and redact(image) not in rejected
    ]
    with tqdm(
        desc="predict",
        total=len(images),
        initial=len(images) - len(rest),
        unit="image",
        leave=None,
        disable=arguments.quiet,
    ) as bar:
        predictions = predict([image for _, image in rest])
        for start in range(0, len(rest), arguments.block_size):
            block = rest[start : start + arguments.block_size]
            for (i, image), prediction in zip(block, predictions, strict=False):
                if prediction.error is None or arguments.on_error == "row":
                    writer.write(prediction, file)
                    recorded.n_failed += prediction.error is not None
                else:
                    _reject(redact(image), i, prediction.error, rejects)
            file.flush()
            bar.update(len(block))


def _predict(
    model: Any, images: list[str], *, client: Any, flags: bool, arguments: argparse.Namespace
) -> Iterator[Any]:
    """Yield the predictions, block by block, in this process or on a cluster."""
    if not images:
        return iter(())
    X = _open_images(images, arguments.white_level)
    if client is None:
        from effboost import iter_predictions

        return iter_predictions(model, X, block_size=arguments.block_size, flags=flags)
    from effboost import dask

    return dask.iter_predictions(
        model, X, client=client, block_size=arguments.block_size, flags=flags
    )


def _reject(image: str, position: int, reason: str, rejects: RejectFile | None) -> None:
    """Write an image to the reject table, or stop at it if there is none."""
    from effboost import Reject
    from effboost.exceptions import ImageDecodeError

    if rejects is None:
        raise ImageDecodeError(position, image, reason)
    rejects.write(Reject(image, position, reason))


def _check_continues(model: Any) -> None:
    from effboost._iter_predictions import adapts_to_call

    if adapts_to_call(model):
        raise ValueError(
            "--resume cannot continue predictions of a model that adapts to all images of a call: "
            "write them anew with --force"
        )


def _check_same_model(
    model: Any, recorded: Recorded, out: Path, white_level: float | None = None
) -> None:
    """Predict one image again, to refuse a file that was written by another model."""
    from effboost import iter_predictions

    samples = recorded.samples
    sample = next(((name, row) for name, row in samples if can_read_again(name)), None)
    if sample is None:
        return
    name, (label, shares) = sample
    again = next(iter_predictions(model, _open_images([name], white_level)))
    if again.error is not None:
        return
    now = [] if again.probabilities is None else [float(p) for p in again.probabilities]
    difference = max((abs(a - b) for a, b in zip(now, shares, strict=True)), default=0.0)
    # Close to a threshold, the last digits may decide; with equal digits, another rule decides.
    other_rule = str(again.label) != label and difference <= _ROUNDED
    if difference > _TOLERANCE or other_rule:
        raise ValueError(
            f"{str(out)!r} has {name!r} as {label} {shares}, but this model predicts "
            f"{again.label} {[round(p, 6) for p in now]}: it was written by another model, or the "
            "image has changed; name another --out"
        )


def _open_images(paths: list[str], white_level: float | None) -> Any:
    """Return images in a form that every model reads, also one that was fitted on rows."""
    from effboost import ImageSequence

    return ImageSequence(paths, white_level=white_level)
