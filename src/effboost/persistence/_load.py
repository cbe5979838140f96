"""From a file to a fitted model, without running anything in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from torch import nn

from effboost._utils.device import resolve_device
from effboost._utils.refusal import RefusedError
from effboost.backbones import BackboneSpec
from effboost.exceptions import ModelFileError
from effboost.persistence._archive import Archive
from effboost.persistence._construct import NETWORK, Construction
from effboost.persistence._foreign import HEAD_BYTES, check_is_ours
from effboost.persistence._manifest import MANIFEST, read_manifest, read_member

__all__ = ["load"]

_MAX_MEMBERS: Final = 1024


def load(
    path: str | os.PathLike[str],
    *,
    backbone: Callable[..., nn.Module] | BackboneSpec | None = None,
    device: str | torch.device | None = None,
) -> Any:
    """Read a model that `save` wrote.

    No code of the file is run, whoever wrote it: nothing in it is a pickle, and classes are those
    of a list that effboost keeps. Everything is compared with its hash, its size and its shape,
    and all trees are walked, before anything is built from it.

    Parameters
    ----------
    path : str or path
        The file.
    backbone : callable or BackboneSpec, default=None
        Builds the network where it is one of your own, as `ImageFeaturizer` takes it.
    device : str or torch.device, default=None
        Where to compute from now on, as `ImageFeaturizer` takes it. None leaves it as it was
        saved; a GPU that is not there gives the CPU, with a warning.

    Returns
    -------
    HybridClassifier, CNNClassifier, ImageFeaturizer or EfficientNetFeaturizer
        The model, fitted. It predicts the same, to the bit on the same machine.

    Raises
    ------
    ModelFileError
        If the file is no model, was damaged or tampered with, is of a newer effboost, or holds
        what is not known to be harmless. The message says what and where.
    FileNotFoundError
        If there is no file.
    MissingDependencyError
        If its head is one of scikit-learn and skops is not installed.

    See Also
    --------
    save : Write the file.

    Notes
    -----
    Memory holds the weights twice for a moment. A file can claim no more than it holds: the
    network that it names is built only after its weights were found to fit.

    With onnxruntime, the network is exported when the first image is predicted, which takes
    seconds, as after `fit`.
    """
    if device is not None:
        resolve_device(device, or_cpu=True)
    try:
        with _open(path) as stream:
            return _read(stream, backbone, device)
    except RefusedError as error:
        raise ModelFileError(os.fspath(path), str(error)) from error.__cause__


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    # Before it is opened: a pipe would wait for somebody to write.
    mode = Path(path).stat().st_mode
    if stat.S_ISDIR(mode):
        raise RefusedError("is a folder, not a model file")
    if not stat.S_ISREG(mode):
        raise RefusedError("is not a regular file")
    return Path(path).open("rb")


def _read(stream: BinaryIO, backbone: Any, device: Any) -> Any:
    check_is_ours(stream.read(HEAD_BYTES))
    archive = Archive(stream, max_members=_MAX_MEMBERS)
    manifest = read_manifest(archive)
    construction = Construction(
        lambda name, limit: read_member(archive, manifest, name, limit),
        [name for name in archive.sizes if name not in (MANIFEST, NETWORK)],
        backbone,
        device,
    )
    return construction.build(manifest["kind"], manifest["model"])
