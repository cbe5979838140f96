"""Loading of a fitted model from a file, without running code from it."""

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

    No code from the file is run, whoever wrote it: nothing in it is unpickled, and only classes of
    a fixed list are built. Hashes, sizes, shapes and numbers are checked before anything is built
    from them. The head then predicts a few rows of features as a check; the network is not run.

    Parameters
    ----------
    path : str or path
        The file.
    backbone : callable or BackboneSpec, default=None
        Builds the network if it is a custom one, as in `ImageFeaturizer`.
    device : str or torch.device, default=None
        Where to compute, as in `ImageFeaturizer`. None leaves it as it was saved; if that is a
        GPU and there is none, the CPU is used, with a warning.

    Returns
    -------
    HybridClassifier, CNNClassifier, ImageFeaturizer or EfficientNetFeaturizer
        The fitted model. On the same machine, it predicts the same as the saved one, to the bit.

    Raises
    ------
    ModelFileError
        If the file is not a model, is damaged, was written by a newer effboost, or contains
        something that effboost does not know. The message says what and where.
    FileNotFoundError
        If the file does not exist.
    MissingDependencyError
        If its head is one of scikit-learn's and skops is not installed.

    See Also
    --------
    save : Write the file.

    Notes
    -----
    Loading needs memory for two copies of the weights.

    ``n_jobs`` of heads is 1 after loading, unless it is None.

    With onnxruntime, the first prediction uses the exported network of the file, if it was saved
    with one. It is only used if it has the recorded hash together with the weights of the file, and
    computes the same features as these for an image of noise. Otherwise, the network is exported
    again, which takes seconds.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import effboost
    >>> featurizer = effboost.ImageFeaturizer("resnet18", weights=None, training=None)
    >>> featurizer = featurizer.fit(["cells/1.png"])  # no image is read yet
    >>> with TemporaryDirectory() as folder:
    ...     path = effboost.save(featurizer, Path(folder, "model.effboost"))
    ...     again = effboost.load(path, device="cpu")
    >>> again.spec_.name, again.device
    ('resnet18', 'cpu')
    """
    if device is not None:
        resolve_device(device, or_cpu=True)
    try:
        with _open(path) as stream:
            return _read(stream, backbone, device)
    except RefusedError as error:
        raise ModelFileError(os.fspath(path), str(error)) from error.__cause__
    except (ImportError, MemoryError, OSError):
        raise
    except Exception as error:
        # Files come from anywhere: whatever the checks above do not name is wrong with this one.
        reason = f"is damaged ({type(error).__name__}: {str(error)[:200]})"
        raise ModelFileError(os.fspath(path), reason) from error


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    # Before it is opened: opening a pipe waits for a writer.
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
