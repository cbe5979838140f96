"""Displays of attributions and class activations as heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.utils.validation import check_is_fitted

from effboost._hybrid_classifier import HybridClassifier
from effboost._images import as_images
from effboost._utils.compat import load_matplotlib
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._attribution import Attribution, enlarge, hybrid_attribution
from effboost.inspection._cam import ClassActivation, grad_cam
from effboost.inspection._occlusion import occlusion_attribution

__all__ = ["AttributionDisplay", "CAMDisplay", "explain", "network_pictures"]

_Pictures = npt.NDArray[np.uint8]
_METHODS: Final = ("auto", "exact", "occlusion")
# Heat is drawn over the grey picture, since the stain is coloured.
_OPACITY: Final = 0.65
_CONTOUR: Final = 0.5


def explain(
    clf: Any, X: Any, method: str = "auto", background: Any = None
) -> tuple[_Pictures, Attribution]:
    """Attribute decisions by a method that suits the classifier; also return the images to draw.

    "auto" means `hybrid_attribution` if the margin can be split exactly over several positions, and
    occlusion otherwise.
    """
    if method not in _METHODS:
        raise UnsupportedInputError(f"method={method!r} must be one of {list(_METHODS)}")
    check_is_fitted(clf)
    if method == "exact" and not isinstance(clf, HybridClassifier):
        raise UnsupportedInputError(
            f'method="exact" explains a HybridClassifier, not a {type(clf).__name__}; '
            '"occlusion" explains any classifier'
        )
    if method != "occlusion" and isinstance(clf, HybridClassifier):
        try:
            found = hybrid_attribution(clf, X, background=background)
        except UnsupportedInputError:
            if method == "exact":
                raise
        else:
            # A map of one position is correct, but shows nothing.
            if method == "exact" or found.maps[0, 0].size > 1:
                return network_pictures(clf.featurizer_, X), found
    found = occlusion_attribution(clf, X)
    images = as_images(X, image_shape=clf.get_params().get("featurizer__image_shape"))
    size = (found.maps.shape[3], found.maps.shape[2])
    pictures = [
        images.decode(i).resize(size, Image.Resampling.BILINEAR) for i in range(len(images))
    ]
    return np.stack([np.asarray(picture) for picture in pictures]), found


def network_pictures(featurizer: Any, X: Any) -> _Pictures:
    """Return what the network sees of images, of shape (n_samples, height, width, 3)."""
    images = featurizer._check_images(X, reset=False)
    pictures = [images.decode(i, featurizer.transform_.prepare) for i in range(len(images))]
    return np.stack([np.asarray(picture) for picture in pictures])


class AttributionDisplay:
    """Heat maps of what supports a class in each image, and what contradicts it.

    Create it with `from_estimator` or `from_attribution`.

    Parameters
    ----------
    pictures : ndarray of shape (n_samples, height, width, 3), uint8
        The images to draw below the maps.
    attribution : Attribution
        The maps.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (n_samples,)
        The axes, after `plot`.
    figure_ : matplotlib Figure
        The figure, after `plot`.

    Examples
    --------
    >>> from effboost import presets
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.inspection import AttributionDisplay
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=64, random_state=0)
    >>> clf = presets.frozen("resnet18", weights=None, image_size=64, random_state=0)
    >>> clf = clf.fit(cells.images, cells.target)
    >>> display = AttributionDisplay.from_estimator(clf, cells.images[:2])
    >>> display.attribution.method, len(display.axes_)
    ('TreeSHAP', 2)
    """

    def __init__(self, pictures: _Pictures, attribution: Attribution):
        _check_pictures(pictures, len(attribution.maps))
        self.pictures = pictures
        self.attribution = attribution

    @classmethod
    def from_estimator(
        cls,
        clf: Any,
        X: Any,
        *,
        method: str = "auto",
        background: Any = None,
        output: Any = None,
        ax: Any = None,
    ) -> Self:
        """Explain the decisions of a classifier and draw them.

        Parameters
        ----------
        clf : classifier
            Fitted, on images.
        X : images, n_samples of them
            In any form that `ImageSequence` takes. All maps and images are in memory at once.
        method : {"auto", "exact", "occlusion"}, default="auto"
            "exact" is `hybrid_attribution`; "occlusion" is `occlusion_attribution`; "auto" is
            "exact" if that is possible, otherwise "occlusion". The titles name the method.
        background : images, default=None
            Some training images for `hybrid_attribution`.
        output : label, default=None
            The class to explain; None means that of the highest margin for each image.
        ax : matplotlib Axes, or n_samples of them, default=None
            Where to draw; None makes a new figure, with each image as it is beside its heat.

        Returns
        -------
        AttributionDisplay
            The display.

        Raises
        ------
        UnsupportedInputError
            If the method is not possible, or the class is not one of the classifier.
        """
        return cls(*explain(clf, X, method, background)).plot(ax, output=output)

    @classmethod
    def from_attribution(
        cls, pictures: _Pictures, attribution: Attribution, *, output: Any = None, ax: Any = None
    ) -> Self:
        """Draw attributions that were computed before.

        Parameters
        ----------
        pictures : array-like of shape (n_samples, height, width, 3), uint8
            The images to draw below the maps: see `Attribution`.
        attribution : Attribution
            The maps.
        output : label, default=None
            The class to explain; None means that of the highest margin for each image.
        ax : matplotlib Axes, or n_samples of them, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        AttributionDisplay
            The display.
        """
        return cls(np.asarray(pictures), attribution).plot(ax, output=output)

    def plot(self, ax: Any = None, *, output: Any = None) -> Self:
        """Draw the images with their heat maps, all on one scale.

        Parameters
        ----------
        ax : matplotlib Axes, or n_samples of them, default=None
            Where to draw; None makes a new figure, with each image as it is beside its heat.
        output : label, default=None
            The class to explain; None means that of the highest margin for each image.

        Returns
        -------
        AttributionDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        found = self.attribution
        labels, columns, signs = _choose_outputs(found, output)
        rows = np.arange(len(columns))
        chosen = signs[:, np.newaxis, np.newaxis] * found.maps[rows, columns]
        margin, base = found.margin[rows, columns], found.base[rows, columns]
        if found.is_probability:  # that of the first of two classes is the rest
            margin, base = (np.where(signs > 0, part, 1 - part) for part in (margin, base))
        else:
            margin, base = signs * margin, signs * base
        shares = found.stage_shares() if len(found.stages) > 1 else {}
        limit = float(np.abs(chosen).max()) or 1.0
        self.axes_, self.figure_ = _prepare_axes(ax, self.pictures)
        height, width = self.pictures.shape[1:3]
        for i, (label, axes) in enumerate(zip(labels, self.axes_, strict=True)):
            heat = enlarge(chosen[i], height, width)
            _draw_grey(axes, self.pictures[i])
            image = axes.imshow(heat, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=_OPACITY)
            _draw_contour(axes, heat, chosen[i].sum())
            what = "log-odds" if len(found.outputs) == 1 else "score"
            what = "probability" if found.is_probability else what
            where = "lost when hidden" if found.method == "occlusion" else "per position"
            axes.figure.colorbar(image, ax=axes, shrink=0.85).set_label(
                f"{what} of {label},\n{where}", parse_math=False
            )
            sign = "" if found.is_probability else "+"
            title = f"{label}: {what} {margin[i]:{sign}.2f} (base {base[i]:{sign}.2f})"
            title += f"\n{found.method}"
            if shares:
                title += f"\n{_describe_shares(found, shares, i, columns[i])}"
            axes.set_title(title, parse_math=False, fontsize="medium")
        return self


def _describe_shares(
    found: Attribution, shares: dict[str, npt.NDArray[np.float64]], i: int, output: int
) -> str:
    """Describe the share of maps of each resolution, such as "28 x 28: 12 %, 7 x 7: 88 %"."""
    of_size: dict[tuple[int, int], float] = {}
    for name, share in shares.items():
        height, width = found.stages[name].shape[2:]
        of_size[height, width] = of_size.get((height, width), 0.0) + float(share[i, output])
    sizes = sorted(of_size.items(), reverse=True)
    return ", ".join(f"{h} x {w}: {100 * share:.0f} %" for (h, w), share in sizes)


class CAMDisplay:
    """Heat maps of where the softmax of a network finds a class.

    They do not explain the decision of a hybrid, which its booster makes.

    Create it with `from_estimator` or `from_activation`.

    Parameters
    ----------
    pictures : ndarray of shape (n_samples, height, width, 3), uint8
        What the network saw.
    activation : ClassActivation
        The maps.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (n_samples,)
        The axes, after `plot`.
    figure_ : matplotlib Figure
        The figure, after `plot`.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.inspection import CAMDisplay, ClassActivation
    >>> pictures = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    >>> maps = np.random.default_rng(0).random((1, 64, 64), dtype=np.float32)
    >>> found = ClassActivation(maps, np.array(["ALL"]), "Grad-CAM", "features.7")
    >>> display = CAMDisplay.from_activation(pictures, found)
    >>> display.axes_.shape
    (1,)
    """

    def __init__(self, pictures: _Pictures, activation: ClassActivation):
        _check_pictures(pictures, len(activation.maps))
        self.pictures = pictures
        self.activation = activation

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        X: Any,
        *,
        method: str = "grad_cam",
        layer: str | None = None,
        target: Any = None,
        ax: Any = None,
    ) -> Self:
        """Compute class activations and draw them.

        Parameters
        ----------
        model : CNNClassifier, HybridClassifier or ImageFeaturizer
            Fitted; see `grad_cam`.
        X : images, n_samples of them
            What `ImageSequence` takes.
        method : {"grad_cam", "grad_cam++", "eigen_cam"}, default="grad_cam"
            See `grad_cam`.
        layer : str, default=None
            Dotted name of the layer; None takes one near the end, see `grad_cam`.
        target : label or array-like of shape (n_samples,), default=None
            The class to explain. None means the predicted one.
        ax : matplotlib Axes, or n_samples of them, default=None
            Where to draw; None makes a new figure, with each image as it is beside its heat.

        Returns
        -------
        CAMDisplay
            The display.
        """
        found = grad_cam(model, X, method=method, layer=layer, target=target)
        return cls(network_pictures(getattr(model, "featurizer_", model), X), found).plot(ax)

    @classmethod
    def from_activation(
        cls, pictures: _Pictures, activation: ClassActivation, *, ax: Any = None
    ) -> Self:
        """Draw class activations that were computed before.

        Parameters
        ----------
        pictures : array-like of shape (n_samples, height, width, 3), uint8
            What the network saw.
        activation : ClassActivation
            The maps.
        ax : matplotlib Axes, or n_samples of them, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        CAMDisplay
            The display.
        """
        return cls(np.asarray(pictures), activation).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the images with their heat maps.

        Parameters
        ----------
        ax : matplotlib Axes, or n_samples of them, default=None
            Where to draw; None makes a new figure, with each image as it is beside its heat.

        Returns
        -------
        CAMDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        found = self.activation
        self.axes_, self.figure_ = _prepare_axes(ax, self.pictures)
        height, width = self.pictures.shape[1:3]
        targets = [None] * len(self.axes_) if found.targets is None else found.targets
        for i, (target, axes) in enumerate(zip(targets, self.axes_, strict=True)):
            _draw_grey(axes, self.pictures[i])
            heat = enlarge(found.maps[i], height, width)
            image = axes.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=_OPACITY)
            bar = axes.figure.colorbar(image, ax=axes, shrink=0.85)
            bar.set_label("activation, relative to the image's largest")
            what = "" if target is None else f"{target}, by the network's own softmax\n"
            axes.set_title(
                f"{what}{found.method} at {found.layer}",
                parse_math=False,
                fontsize="medium",
            )
        return self


def _check_pictures(pictures: _Pictures, n: int) -> None:
    if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
        raise UnsupportedInputError(
            f"pictures have shape {pictures.shape} and dtype {pictures.dtype}; they must have "
            "shape (n_samples, height, width, 3) and dtype uint8"
        )
    if len(pictures) != n:
        raise UnsupportedInputError(f"there are {len(pictures)} pictures, but maps of {n} images")


def _choose_outputs(
    found: Attribution, output: Any
) -> tuple[list[Any], npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Choose the class to explain for each image, its output, and the sign of the output."""
    n, outputs = len(found.maps), found.outputs.tolist()
    classes = outputs if found.classes is None else found.classes.tolist()
    if output is not None and output not in classes:
        raise UnsupportedInputError(f"output={output!r} is not a class of the model: {classes}")
    if len(outputs) == len(classes):
        columns = found.margin.argmax(axis=1)
        if output is not None:
            columns = np.full(n, outputs.index(output))
        return [outputs[column] for column in columns], columns, np.ones(n, dtype=np.int64)
    # What supports one of two classes contradicts the other.
    is_second = found.margin[:, 0] > (0.5 if found.is_probability else 0)
    if output is not None:
        is_second = np.full(n, output == classes[1])
    labels = [classes[int(second)] for second in is_second]
    return labels, np.zeros(n, dtype=np.intp), np.where(is_second, 1, -1)


def _prepare_axes(ax: Any, pictures: _Pictures) -> tuple[npt.NDArray[Any], Any]:
    """Return an Axes for each heat map; in a new figure, draw the image beside it."""
    if ax is not None:
        given = list(ax) if isinstance(ax, Sequence | np.ndarray) else [ax]
        if len(given) != len(pictures):
            raise UnsupportedInputError(
                f"{len(pictures)} pictures need as many Axes, not {len(given)}"
            )
        axes = np.empty(len(given), dtype=object)
        axes[:] = given
        return axes, given[0].figure
    plt = load_matplotlib()
    figure, grid = plt.subplots(
        len(pictures), 2, figsize=(8, 3.4 * len(pictures)), layout="constrained", squeeze=False
    )
    for picture, plain in zip(pictures, grid[:, 0], strict=True):
        plain.imshow(picture)
        plain.set_axis_off()
    return grid[:, 1], figure


def _draw_grey(axes: Any, picture: _Pictures) -> None:
    axes.imshow(np.asarray(Image.fromarray(picture).convert("L")), cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()


def _draw_contour(axes: Any, heat: npt.NDArray[np.float32], side: float) -> None:
    """Outline the positions that contribute most to the decision."""
    signed = heat if side >= 0 else -heat
    if signed.max() > max(0, signed.min()):
        axes.contour(signed, [_CONTOUR * signed.max()], colors="black", linewidths=1)
