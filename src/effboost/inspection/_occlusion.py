"""The attribution of a decision by hiding parts of the image."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from scipy.special import logit
from sklearn.utils.validation import check_is_fitted

from effboost._images import ImageSequence, as_images
from effboost._iter_predictions import adapts_to_call
from effboost._utils.compat import load_extra
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._attribution import Attribution

__all__ = ["occlusion_attribution"]

_Floats = npt.NDArray[np.float64]
_SIDE: Final = 224
# Probabilities closer to 0 or 1 are due to rounding, and would have infinite log-odds.
_LEAST: Final = 1e-7
# Copies of an image at a time.
_BLOCK: Final = 16


def occlusion_attribution(
    clf: Any, X: Any, *, n_segments: int = 50, fill: str | tuple[int, int, int] = "border"
) -> Attribution:
    """Hide the superpixels of an image one by one, and measure the change of the decision.

    This needs only probabilities, so it explains any classifier, at the cost of about `n_segments`
    predictions per image. Unlike in `hybrid_attribution`, each part is hidden alone, so the values
    do not add up to the margin; and the classifier gets images unlike those of a microscope.

    Parameters
    ----------
    clf : classifier
        Fitted, on images, with ``predict_proba`` or ``decision_function``.
    X : images, n_samples of them
        In any form that `ImageSequence` takes.
    n_segments : int, default=50
        Approximate number of superpixels in each image, found by SLIC.
    fill : "border", "blur" or tuple of 3 ints, default="border"
        What replaces hidden parts: the median colour of the border of the image, which usually
        surrounds the cell; the image, strongly blurred; or one colour (R, G, B from 0 to 255).

    Returns
    -------
    Attribution
        Maps of 224 x 224 positions on the whole image, resized to a square: the margin minus the
        margin with the superpixel hidden. The margin is the log-odds of a class against the
        rest, or without ``predict_proba`` the output of ``decision_function``.

    Raises
    ------
    UnsupportedInputError
        If the classifier has neither method, does not return one score for each class, or adapts to
        all images of a call, such as `SiteAdaptedClassifier`; or an argument is out of range.
    ImageDecodeError
        If an image cannot be read.
    MissingDependencyError
        If scikit-image is not installed.

    References
    ----------
    M. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014.
    R. Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", IEEE
    TPAMI 34, 2012.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from effboost import presets
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.inspection import occlusion_attribution
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=64, random_state=0)
    >>> clf = presets.frozen("resnet18", weights=None, image_size=64, random_state=0)
    >>> clf.set_params(classifier=LogisticRegression()).fit(cells.images, cells.target)
    HybridClassifier(...)
    >>> found = occlusion_attribution(clf, cells.images[:1], n_segments=9)
    >>> found.maps.shape, found.method
    ((1, 1, 224, 224), 'occlusion')
    """
    check_is_fitted(clf)
    slic = load_extra("skimage.segmentation", "explain").slic
    if not hasattr(clf, "predict_proba") and not hasattr(clf, "decision_function"):
        raise UnsupportedInputError(
            f"{type(clf).__name__} has neither predict_proba nor decision_function, so the change "
            "of its decision cannot be measured"
        )
    if adapts_to_call(clf):
        raise UnsupportedInputError(
            f"{type(clf).__name__} adapts to the images of a call, so occluded copies of one image "
            "would be decided on like images of another site"
        )
    if n_segments < 2:
        raise UnsupportedInputError(f"n_segments={n_segments!r} must be 2 or more")
    images = as_images(X, image_shape=clf.get_params().get("featurizer__image_shape"))
    if not hasattr(clf, "predict_proba"):
        _check_scores(clf, images)
    maps, base, margin = (
        np.stack(column)
        for column in zip(
            *(_occlude(clf, images.decode(i), slic, n_segments, fill) for i in range(len(images))),
            strict=True,
        )
    )
    outputs = clf.classes_[1:] if margin.shape[1] == 1 else clf.classes_
    return Attribution(maps, base, margin, outputs, "occlusion", np.asarray(clf.classes_))


def _check_scores(clf: Any, images: ImageSequence) -> None:
    """Check that there is one score for each class, or one for two classes."""
    scores = np.asarray(clf.decision_function(images))
    if scores.ndim == 1:
        return
    if scores.shape[1] != len(clf.classes_) or not np.array_equal(
        clf.classes_[scores.argmax(axis=1)], clf.predict(images)
    ):
        raise UnsupportedInputError(
            f"the decision_function of {type(clf).__name__} does not return a score for each class "
            "with the highest one for the predicted class; a support vector machine does so with "
            'decision_function_shape="ovr"'
        )


def _occlude(
    clf: Any, image: Image.Image, slic: Any, n_segments: int, fill: str | tuple[int, int, int]
) -> tuple[_Floats, _Floats, _Floats]:
    """Compute the map of each output, and its margin with all parts hidden and with none hidden."""
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    segments = slic(np.asarray(small), n_segments=n_segments, start_label=1)
    names = np.unique(segments)
    whole, other = np.asarray(image), _fill(image, fill)
    scores = [_margins(clf, np.stack([whole, other]))]
    for start in range(0, len(names), _BLOCK):
        block = names[start : start + _BLOCK]
        # Masks of the size of the image, so that the classifier gets it at its original size.
        masks = [_enlarge(segments == name, image.size) for name in block]
        hidden = np.stack([np.where(mask[..., np.newaxis], other, whole) for mask in masks])
        scores.append(_margins(clf, hidden))
    margin, base, without = scores[0][0], scores[0][1], np.concatenate(scores[1:])
    lost = margin - without
    maps = np.moveaxis(lost[np.searchsorted(names, segments)], -1, 0)
    return maps, base, margin


def _fill(image: Image.Image, fill: str | tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    if fill == "blur":
        return np.asarray(image.filter(ImageFilter.GaussianBlur(max(image.size) / 8)))
    if fill == "border":
        pixels = np.asarray(image)
        edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
        fill = tuple(np.median(np.concatenate(edges), axis=0).astype(int).tolist())
    if isinstance(fill, str) or len(fill) != 3 or not all(0 <= value <= 255 for value in fill):
        raise UnsupportedInputError(
            f'fill={fill!r} must be "border", "blur" or three numbers from 0 to 255 (R, G, B)'
        )
    return np.asarray(Image.new("RGB", image.size, tuple(fill)))


def _enlarge(mask: npt.NDArray[np.bool_], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def _margins(clf: Any, pixels: npt.NDArray[np.uint8]) -> _Floats:
    """Compute the margin of each output, of shape (n, n_outputs)."""
    images = ImageSequence(pixels)
    if not hasattr(clf, "predict_proba"):
        scores: _Floats = np.asarray(clf.decision_function(images), np.float64)
        return scores.reshape(len(pixels), -1)
    odds: _Floats = logit(np.clip(clf.predict_proba(images), _LEAST, 1 - _LEAST).astype(np.float64))
    return odds[:, 1:] if odds.shape[1] == 2 else odds
