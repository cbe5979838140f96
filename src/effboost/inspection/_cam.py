"""Grad-CAM and related methods, which explain the softmax of a network."""

from __future__ import annotations

import copy
import dataclasses
import difflib
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from effboost._cnn_classifier import CNNClassifier
from effboost._featurizer import ImageFeaturizer
from effboost._hybrid_classifier import HybridClassifier
from effboost._images import ImageSequence
from effboost._utils.compat import load_extra
from effboost._utils.device import computing, resolve_device
from effboost.backbones import MapLayout, list_children
from effboost.exceptions import UnsupportedInputError

__all__ = ["ClassActivation", "grad_cam"]

_METHODS: Final = {
    "grad_cam": ("GradCAM", "Grad-CAM"),
    "grad_cam++": ("GradCAMPlusPlus", "Grad-CAM++"),
    "eigen_cam": ("EigenCAM", "Eigen-CAM"),
}
_BATCH: Final = 8


@dataclasses.dataclass(frozen=True)
class ClassActivation:
    """Class activation maps: where a network finds a class.

    Attributes
    ----------
    maps : ndarray of shape (n_samples, image_size, image_size), float32
        Values from 0 to 1 for each pixel of the prepared image. They have no unit: maps of two
        images cannot be compared, and evidence against the class is not shown.
    targets : ndarray of shape (n_samples,), or None
        The class of each map; for "eigen_cam", which does not depend on a class, the one that the
        network predicts, and None if the network has no head.
    method : str
        "Grad-CAM", "Grad-CAM++" or "Eigen-CAM".
    layer : str
        Dotted name of the layer.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.inspection import ClassActivation
    >>> maps = np.random.default_rng(0).random((1, 224, 224), dtype=np.float32)
    >>> found = ClassActivation(maps, np.array(["ALL"]), "Grad-CAM", "features.7")
    >>> bright = found.maps[0] > 0.5  # where the network finds the class
    >>> bright.shape, found.targets[0].item()
    ((224, 224), 'ALL')
    """

    maps: npt.NDArray[np.float32]
    targets: npt.NDArray[Any] | None
    method: str
    layer: str


def grad_cam(
    model: CNNClassifier | HybridClassifier | ImageFeaturizer,
    X: Any,
    *,
    method: str = "grad_cam",
    layer: str | None = None,
    target: Any = None,
) -> ClassActivation:
    """Show where the softmax of the network finds a class.

    This explains the linear layer at the end of the network, as the paper's Figure 5 does. A
    hybrid does not use that layer: its boosted trees decide, which `hybrid_attribution`
    explains.

    Parameters
    ----------
    model : CNNClassifier, HybridClassifier or ImageFeaturizer
        Fitted. For a hybrid, the network alone is explained (``cnn_``). For a featurizer without
        fine-tuning, the head that it was pretrained with is explained: this requires
        ``features="logits"``, and classes are numbers from 0. "eigen_cam" requires no head.
    X : images, n_samples of them
        In any form that `ImageSequence` takes.
    method : {"grad_cam", "grad_cam++", "eigen_cam"}, default="grad_cam"
        "grad_cam" weights channels by their mean gradient; "grad_cam++" by gradients of higher
        order, which suits several objects in an image; "eigen_cam" is the first principal component
        of the activations, which does not depend on a class.
    layer : str, default=None
        Dotted name of the layer whose output is explained, such as "features.5". None takes, for
        an EfficientNet, the last layer before the final 1 x 1 convolution (the paper's 7th,
        "features.7" of EfficientNet-B0); for a vision transformer the first norm of its last
        block, since nothing but the class token may leave that block; and for other networks the
        last child that returns a feature map. The tokens of patches are taken for a map.
    target : label or array-like of shape (n_samples,), default=None
        The class to explain, for all images or for each. None means the predicted one.

    Returns
    -------
    ClassActivation
        The maps.

    Raises
    ------
    UnsupportedInputError
        If there is no such head, layer, method or class, or the layer does not return a feature
        map.
    ImageDecodeError
        If an image cannot be read.
    MissingDependencyError
        If grad-cam is not installed.

    See Also
    --------
    hybrid_attribution : Explains the decision of a hybrid.

    References
    ----------
    R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
    localization", ICCV 2017.
    A. Chattopadhay et al., "Grad-CAM++: generalized gradient-based visual explanations for deep
    convolutional networks", WACV 2018.
    M. Muhammad and M. Yeasin, "Eigen-CAM: class activation map using principal components",
    IJCNN 2020.

    Examples
    --------
    >>> from effboost import CNNClassifier, FineTuning, ImageFeaturizer, ImageTransform
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.inspection import grad_cam
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=5, image_size=64, random_state=0)
    >>> cnn = CNNClassifier(
    ...     ImageFeaturizer(
    ...         "resnet18",
    ...         weights=None,
    ...         training=FineTuning(max_epochs=1),
    ...         transform=ImageTransform(crop_size=None, image_size=64),
    ...     ),
    ...     random_state=0,
    ... ).fit(cells.images, cells.target)
    >>> found = grad_cam(cnn, cells.images[:3], target="ALL")
    >>> found.maps.shape, found.method, found.layer
    ((3, 64, 64), 'Grad-CAM', 'layer4')
    """
    if method not in _METHODS:
        raise UnsupportedInputError(f"method={method!r} must be one of {sorted(_METHODS)}")
    builder, title = _METHODS[method]
    cam = getattr(load_extra("pytorch_grad_cam", "explain"), builder)
    check_is_fitted(model)
    featurizer = model if isinstance(model, ImageFeaturizer) else model.featurizer_
    images = featurizer._check_images(X, reset=False)
    classes = getattr(featurizer, "classes_", None)
    wanted = _check_target(target, len(images), classes)
    # Gradients are needed whatever the caller has switched off.
    with torch.inference_mode(False), torch.enable_grad():
        network = _with_head(featurizer, needed=method != "eigen_cam")
        name = layer or _default_layer(featurizer, network[0])
        target_layers = [_find_layer(network[0], name)]
        explain = cam(network, target_layers, reshape_transform=_reshape(network[0]))
        parts = [range(i, min(i + _BATCH, len(images))) for i in range(0, len(images), _BATCH)]
        found = [_explain(explain, featurizer, images, part, wanted) for part in parts]
    maps, codes = (np.concatenate(column) for column in zip(*found, strict=True))
    if isinstance(network[1], nn.Identity) and featurizer.features != "logits":
        targets = None  # the outputs are features
    else:
        targets = codes if classes is None else classes[codes]
    if maps.shape[1:] != (featurizer.transform_.side,) * 2:
        raise UnsupportedInputError(f"the output of layer {name!r} is not a feature map")
    return ClassActivation(maps, targets, title, name)


def _explain(
    explain: Any,
    featurizer: ImageFeaturizer,
    images: ImageSequence,
    part: range,
    wanted: npt.NDArray[np.intp] | None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Compute the maps of some images, and the numbers of the classes that they explain."""
    pictures = (images.decode(i, featurizer.transform_.prepare) for i in part)
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    x = torch.from_numpy(featurizer.transform_.normalize_pixels(pixels))
    # The gradient reaches the layer even if no weight before it is trained.
    x = x.to(resolve_device(featurizer.device, or_cpu=True)).requires_grad_()
    targets = None if wanted is None else [_Output(wanted[i]) for i in part]
    with computing():
        maps = explain(x, targets)
    codes = explain.outputs.argmax(dim=1).cpu().numpy() if wanted is None else wanted[part]
    return maps, codes


def _reshape(network: nn.Module) -> Any:
    """Return what turns the outputs of layers into maps, where they are none already."""
    layout = MapLayout.of(network)
    return None if layout == MapLayout() else _Reshaped(layout)


class _Reshaped:
    """A function from the outputs of layers, and their gradients, to maps."""

    def __init__(self, layout: MapLayout):
        self.layout = layout

    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        maps = self.layout.as_map(value)
        if maps is None:
            raise UnsupportedInputError(
                f"the layer returns {tuple(value.shape)}, which is neither a feature map nor the "
                "tokens of all patches; name another layer"
            )
        return maps


class _Output:
    """A function that selects the output of one class."""

    def __init__(self, code: int):
        self.code = int(code)

    def __call__(self, outputs: torch.Tensor) -> torch.Tensor:
        if self.code >= len(outputs):
            raise UnsupportedInputError(
                f"target={self.code} is not a class of the network, which has {len(outputs)}"
            )
        return outputs[self.code]


class _First(nn.Module):
    """A layer that keeps the first outputs, those of the trained classes."""

    def __init__(self, n: int):
        super().__init__()
        self.n = n

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, : self.n]


def _with_head(featurizer: ImageFeaturizer, *, needed: bool) -> nn.Sequential:
    """Copy the network and its head, so that gradients and hooks do not reach the original."""
    head: nn.Module = nn.Identity()
    if featurizer.head_ is not None:
        head = featurizer.head_
    elif featurizer.training is not None:
        head = _First(len(featurizer.classes_))
    elif featurizer.features != "logits" and needed:
        raise UnsupportedInputError(
            "the network was not fine-tuned, so it has no softmax for these classes; "
            "effboost.inspection.hybrid_attribution explains a hybrid on frozen features, "
            'method="eigen_cam" requires no head, and ImageFeaturizer(features="logits") keeps '
            "the head that the network was pretrained with"
        )
    network = copy.deepcopy(nn.Sequential(featurizer.module_, head)).eval()
    return network.to(resolve_device(featurizer.device, or_cpu=True))


def _default_layer(featurizer: ImageFeaturizer, network: nn.Module) -> str:
    """Return the name of the layer that is explained unless another one is named."""
    children = list_children(network)
    if featurizer.spec_.family == "efficientnet":
        return [name for name in children if name.startswith("features.")][-2]
    layout, blocks = MapLayout.of(network), [name for name in children if "blocks." in name]
    if layout.grid is not None and blocks and hasattr(children[blocks[-1]], "norm1"):
        return f"{blocks[-1]}.norm1"
    spatial: list[str] = []

    def look(name: str) -> Any:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            maps = layout.as_map(out)
            if maps is not None and maps[0, 0].numel() > 1:
                spatial.append(name)

        return hook

    hooks = [child.register_forward_hook(look(name)) for name, child in children.items()]
    side = featurizer.transform_.side
    device = resolve_device(featurizer.device, or_cpu=True)
    with computing(), torch.no_grad():
        network(torch.zeros(1, 3, side, side, device=device))
    for hook in hooks:
        hook.remove()
    if not spatial:
        raise UnsupportedInputError(
            f"no child of {featurizer.spec_.name!r} returns a feature map; name a layer"
        )
    return spatial[-1]


def _find_layer(network: nn.Module, name: str) -> nn.Module:
    layers = dict(network.named_modules())
    if name not in layers:
        near = difflib.get_close_matches(name, layers, n=3, cutoff=0.3)
        raise UnsupportedInputError(
            f"the network has no layer {name!r}; did you mean {' or '.join(map(repr, near))}?"
            if near
            else f"the network has no layer {name!r}; its children are {sorted(layers)[:20]}"
        )
    return layers[name]


def _check_target(target: Any, n: int, classes: Any) -> npt.NDArray[np.intp] | None:
    """Check the target, and return the number of its class for each image."""
    if target is None:
        return None
    labels = np.asarray(target)
    if labels.ndim == 0:
        labels = np.full(n, labels)
    if labels.shape != (n,):
        raise UnsupportedInputError(f"target has {labels.size} classes, but X has {n} images")
    if classes is None:
        if labels.dtype.kind not in "iu" or labels.min() < 0:
            raise UnsupportedInputError(
                f"target={target!r}: this network's classes are numbers from 0"
            )
        return labels.astype(np.intp)
    unknown = sorted(set(labels.tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise UnsupportedInputError(
            f"target={unknown[0]!r} is not a class of the network: {classes.tolist()}"
        )
    codes: npt.NDArray[np.intp] = np.searchsorted(classes, labels)
    return codes
