"""Saving of a fitted model to a file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from effboost._utils.atomic_write import open_atomic
from effboost._utils.refusal import RefusedError
from effboost.exceptions import ModelFileError, ModelFileWarning
from effboost.persistence._archive import write_archive
from effboost.persistence._construct import NETWORK
from effboost.persistence._describe import describe
from effboost.persistence._manifest import MANIFEST, write_manifest
from effboost.persistence._tensors import write_tensors

__all__ = ["save"]


def save(model: Any, path: str | os.PathLike[str]) -> Path:
    """Write a fitted model to a file that can be loaded without running code from it.

    The file is a zip of a JSON manifest, the network's weights (safetensors), boosted trees (UBJ)
    and, for heads of scikit-learn, a skops file. It is written in one step: after an error, a
    killed process or a power failure, the previous file is unchanged, and there is no incomplete
    file.

    Parameters
    ----------
    model : HybridClassifier, CNNClassifier, ImageFeaturizer or EfficientNetFeaturizer
        The model, fitted.
    path : str or path
        The file, in a folder that exists, such as ``model.effboost``. An existing file is
        replaced.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ModelFileError
        If the model is of another class, or its head cannot be saved.
    NotFittedError
        If it is not fitted.
    MissingDependencyError
        If its head is one of scikit-learn's and skops is not installed.

    Warns
    -----
    ModelFileWarning
        If a parameter is code that only matters for training (callbacks, a custom optimizer or
        augmentation), or a random generator. The loaded model has its default instead.

    See Also
    --------
    load : Read the file.

    Notes
    -----
    The cache is not saved, because it is a folder of this machine. Neither is the code of a
    custom network: pass it to `load` as `backbone`.

    If the model has computed features with onnxruntime, as it does by default on a CPU, the file
    also has the exported graph of its network, without the weights, so that the first prediction
    of the loaded model is quick.

    Saving needs memory for three copies of the weights.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import effboost
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=5, image_size=64, random_state=0)
    >>> clf = effboost.presets.frozen(
    ...     "resnet18", weights=None, image_size=32, random_state=0
    ... ).fit(cells.images, cells.target)
    >>> with TemporaryDirectory() as folder:
    ...     path = effboost.save(clf, Path(folder, "model.effboost"))
    ...     again = effboost.load(path)
    >>> bool((again.predict_proba(cells.images) == clf.predict_proba(cells.images)).all())
    True
    """
    try:
        described = describe(_fitted(model))
        network = write_tensors(described.modules, described.tensors)
        members = {NETWORK: network, **described.members}
        manifest = write_manifest(type(model).__name__, described.model, members)
        with open_atomic(path) as file:
            write_archive(file, {MANIFEST: manifest, **members})
    except RefusedError as error:
        raise ModelFileError(os.fspath(path), str(error)) from error.__cause__
    if described.dropped:
        names = ", ".join(sorted(set(described.dropped)))
        warnings.warn(
            f"saved without {names}: code and random generators are not written to files. The "
            "loaded model predicts the same; set them again before you fit it again",
            ModelFileWarning,
            stacklevel=2,
        )
    return Path(path)


def _fitted(model: Any) -> Any:
    # Other objects are refused by their class.
    if hasattr(model, "fit"):
        check_is_fitted(model)
    return model
