"""A summary of a model file, read without building the model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from effboost._utils.class_names import are_classes
from effboost._utils.refusal import RefusedError
from effboost.exceptions import ModelFileError
from effboost.onnx._file import read_description, read_file
from effboost.onnx._wire import read_metadata
from effboost.persistence._archive import Archive
from effboost.persistence._foreign import HEAD_BYTES, check_is_ours
from effboost.persistence._manifest import read_manifest

__all__ = ["describe_model"]

_MAX_MEMBERS: Final = 1024


def describe_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe the contents of a model file, without building the model and without torch.

    Parameters
    ----------
    path : str or path
        A file that `save` or, with the suffix ``.onnx``, `export_onnx` wrote.

    Returns
    -------
    dict
        Plain data: "kind", "format", "classes", "backbone", "features" (their number), "image"
        (crop, size and normalisation), "epochs", "heads", "parameters" (by nested name; for
        boosters, only those that are set), "made_with" (versions), "members" and "bytes". Entries
        that a model does not have are None. For an ONNX file: "kind", "format", "classes", "image",
        "precision", "agreement" (with the model that was exported), "made_with" and "bytes". The
        content is not verified; only `load` does that.

    Raises
    ------
    ModelFileError
        If the file is not a model, or its manifest is damaged.
    FileNotFoundError
        If the file does not exist.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import effboost
    >>> featurizer = effboost.ImageFeaturizer("resnet18", weights=None, training=None)
    >>> featurizer = featurizer.fit(["cells/1.png"])  # no image is read yet
    >>> with TemporaryDirectory() as folder:
    ...     path = effboost.save(featurizer, Path(folder, "model.effboost"))
    ...     found = effboost.describe_model(path)
    >>> found["kind"], found["backbone"], found["features"]
    ('ImageFeaturizer', 'resnet18', 512)
    """
    file = Path(path)
    if file.exists() and not file.is_file():
        raise ModelFileError(os.fspath(path), "is not a regular file")
    try:
        if file.suffix.lower() == ".onnx":
            return _summarize_onnx(read_file(file))
        with file.open("rb") as stream:
            check_is_ours(stream.read(HEAD_BYTES))
            archive = Archive(stream, max_members=_MAX_MEMBERS)
            summary = _summarize(read_manifest(archive), archive.sizes)
    except RefusedError as error:
        raise ModelFileError(os.fspath(path), str(error)) from error.__cause__
    return summary | {"bytes": file.stat().st_size}


def _summarize_onnx(content: bytes) -> dict[str, Any]:
    metadata = read_metadata(content)
    classes = read_description(metadata).classes
    try:
        image = json.loads(metadata["transform"])
        agreement = json.loads(metadata.get("agreement", "null"))
    except (KeyError, ValueError, RecursionError) as error:
        raise RefusedError(f"has damaged metadata ({error})") from error
    return {
        "kind": "ONNX graph",
        "format": int(metadata["effboost_format"]),
        "classes": classes.tolist(),
        "image": image,
        "precision": metadata.get("precision", "float32"),
        "agreement": agreement,
        "made_with": {"effboost": metadata.get("effboost_version")},
        "bytes": len(content),
    }


def _summarize(manifest: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
    model = manifest["model"]
    # A featurizer that is saved alone is the model itself.
    featurizer = _part(model, "featurizer_") or model
    history = _plain(featurizer.get("history"))
    classes = _plain(model.get("classes", featurizer.get("classes")))
    if classes is not None and not are_classes(classes):
        raise RefusedError("manifest.json: classes are not sorted, each once, none missing")
    return {
        "kind": manifest["kind"],
        "format": manifest["version"],
        "classes": classes,
        "backbone": _name_backbone(featurizer.get("backbone")),
        "features": featurizer.get("width"),
        "image": _plain_fields(_part(featurizer, "transform")),
        "epochs": len(history) if isinstance(history, list) else None,
        "heads": _list_heads(_part(model, "heads")),
        "parameters": _list_parameters(model, featurizer),
        "made_with": _plain_fields(_part(manifest, "made_with")),
        "members": sizes,
    }


def _part(data: Any, name: str) -> dict[str, Any]:
    """Return an object of the manifest; an empty one if it is missing or something else."""
    found = data.get(name) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def _name_backbone(backbone: Any) -> str | None:
    name = backbone if isinstance(backbone, str) else _part(backbone, "spec").get("name")
    return name if isinstance(name, str) else None


def _list_heads(heads: dict[str, Any]) -> list[str] | None:
    """List the kinds of boosters in the fitted head, and "scikit-learn" if it has such parts."""
    if not heads:
        return None
    boosters = heads.get("boosters")
    known = boosters if isinstance(boosters, list) else []
    kinds = {str(one.get("kind")) for one in known if isinstance(one, dict)}
    wrapped = _part(heads, "heads").get("classifier_") == "skops"
    return [*sorted(kinds), *(["scikit-learn"] if wrapped else [])]


def _list_parameters(model: dict[str, Any], featurizer: dict[str, Any]) -> dict[str, Any]:
    own = {} if model is featurizer else _plain_fields(_part(model, "params"))
    prefix = "" if model is featurizer else "featurizer__"
    of_featurizer = _plain_fields(_part(featurizer, "params"))
    found = own | {f"{prefix}{name}": value for name, value in of_featurizer.items()}
    heads = _part(model, "heads")
    number = _part(heads, "heads").get("classifier_")
    boosters = heads.get("boosters")
    if type(number) is int and isinstance(boosters, list) and 0 <= number < len(boosters):
        of_head = _plain_fields(_part(boosters[number], "params"))
        found |= {f"classifier__{k}": v for k, v in of_head.items() if v is not None}
    return found


def _plain_fields(data: dict[str, Any]) -> dict[str, Any]:
    """Return parameters by nested name: those of a group of parameters, too."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        content = next(iter(value.values())) if _is_group(value) else None
        if isinstance(content, dict):
            nested = _plain_fields(content)
            found |= {f"{name}__{key}": one for key, one in nested.items()}
        else:
            found[name] = _plain(value)
    return found


def _is_group(value: Any) -> bool:
    # Types of values have lower-case names.
    return isinstance(value, dict) and len(value) == 1 and next(iter(value))[:1].isupper()


def _plain(value: Any) -> Any:
    """Return a value of the manifest without the notes on its types."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict) or len(value) != 1:
        return value
    kind, content = next(iter(value.items()))
    if kind in ("array", "scalar") and isinstance(content, list) and len(content) == 2:
        return _plain(content[1])
    return _plain(content) if kind in ("tuple", "dict", "float", "path") else value
