"""Preparation of an image for the network, described by plain data."""

from __future__ import annotations

import math
import warnings
from numbers import Integral
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._transforms.foreground import crop_foreground, crop_masked
from effboost._transforms.stain import STAINS, normalize_stain
from effboost._utils.compat import Interval, StrOptions
from effboost._utils.parameter_set import ParameterSet
from effboost.exceptions import ImageWarning

__all__ = ["ImageTransform", "keeps_pixels"]

_PADDED: Final = (
    "images smaller than crop_size={0} x {0} are padded with black, as torchvision's CenterCrop "
    "does; crop_size=None uses whole images"
)
# Side in pixels up to which the padded square is drawn whole.
_MAX_CANVAS: Final = 4096
_UNIT: Final = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_IMAGENET: Final = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_Triple = tuple[float, float, float]


class ImageTransform(ParameterSet):
    """Preparation of images for the network: crop, resize and normalisation.

    By default the steps are those of the paper. They equal torchvision's `CenterCrop`, `Resize`
    (bilinear, antialiased), `ToDtype(scale=True)` and `Normalize` within one grey level.

    Parameters
    ----------
    crop_size : int or None, default=448
        Side of the centre crop, in pixels. Smaller images are padded with black. With None, the
        whole image is resized, and an oblong image is distorted to a square.
    image_size : int or None, default=224
        Side of the square input of the network, in pixels. None means the size that the weights of
        the network were made for (`BackboneSpec.image_size`): 224 for most, 518 for DINOv2.
    normalize : {"unit", "imagenet", "backbone"} or (mean, std), default="unit"
        "unit" scales pixels to [0, 1], as in the paper. The others then subtract a mean from each
        channel and divide it by a standard deviation: those of ImageNet ("imagenet"), those that
        the weights of the backbone were trained with ("backbone"), or two tuples of 3 floats.
    stain : {"reinhard", "macenko"} or None, default=None
        Normalise the colours of the stains before the crop. "reinhard": the mean and standard
        deviation of the stained pixels in the l-alpha-beta space [1]_; "macenko": the colours of
        the two stains, and the amount of each at its 99th percentile [2]_. The target is that of
        Wright-stained white cells, the same for all images. Black pixels stay black, and an image
        without stain, or of one colour, is not changed.
    foreground : bool or "masked", default=False
        First crop to the cell: a square around the largest connected region that Otsu's threshold
        [3]_ separates from the background, with a margin of a tenth on each side. The dark or the
        bright part is the background, depending on which covers more of the image's border. If no
        cell of at least 8 x 8 pixels is found, the image is not cropped. After that, `crop_size`
        crops or pads the square; with ``crop_size=None``, each cell is scaled to `image_size`.
        "masked" crops only images whose background was cut out, such as those of C-NMC 2019, to the
        square around the pixels above grey level 8, without a margin: those where at most an
        eighth of the border is above it.

    See Also
    --------
    ImageFeaturizer : Takes this as its parameter `transform`.

    References
    ----------
    .. [1] E. Reinhard et al., "Color transfer between images", IEEE Computer Graphics and
       Applications 21, 2001.
    .. [2] M. Macenko et al., "A method for normalizing histology slides for quantitative
       analysis", ISBI 2009.
    .. [3] N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions
       on Systems, Man, and Cybernetics 9, 1979.

    Examples
    --------
    >>> from PIL import Image
    >>> from effboost import ImageTransform
    >>> transform = ImageTransform(crop_size=448, image_size=224)
    >>> transform.prepare(Image.new("RGB", (450, 450))).size
    (224, 224)
    >>> ImageTransform.from_dict(transform.to_dict()) == transform
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "crop_size": [Interval(Integral, 1, None, closed="left"), None],
        "image_size": [Interval(Integral, 2, None, closed="left"), None],
        "normalize": [StrOptions({"unit", "imagenet", "backbone"}), tuple],
        "stain": [StrOptions(set(STAINS)), None],
        "foreground": ["boolean", StrOptions({"masked"})],
    }

    def __init__(
        self,
        crop_size: int | None = 448,
        image_size: int | None = 224,
        *,
        normalize: str | tuple[_Triple, _Triple] = "unit",
        stain: str | None = None,
        foreground: bool | str = False,
    ):
        self.crop_size = crop_size
        self.image_size = image_size
        self.normalize = normalize
        self.stain = stain
        self.foreground = foreground

    def _check_combination(self) -> None:
        if not isinstance(self.normalize, tuple):
            return
        shapes = [np.shape(part) for part in self.normalize]
        if shapes != [(3,), (3,)] or np.asarray(self.normalize).dtype.kind not in "iuf":
            raise ValueError(
                f"normalize={self.normalize!r}; expected (mean, std), each of 3 numbers, or a name"
            )
        if not np.all(np.asarray(self.normalize[1]) > 0):
            raise ValueError(f"normalize={self.normalize!r}; standard deviations must be above 0")

    def resolve(self, mean: _Triple, std: _Triple, image_size: int) -> ImageTransform:
        """Return a copy of this transform with numbers for what depends on the network.

        Parameters
        ----------
        mean, std : tuple of 3 floats
            The values for ``normalize="backbone"``.
        image_size : int
            The value for ``image_size=None``, in pixels.

        Returns
        -------
        ImageTransform
            The copy; later changes of this transform do not affect it.
        """
        names = {"unit": _UNIT, "imagenet": _IMAGENET, "backbone": (mean, std)}
        given = self.normalize
        numbers = names[given] if isinstance(given, str) else given
        return ImageTransform(
            self.crop_size,
            image_size if self.image_size is None else self.image_size,
            normalize=numbers,
            stain=self.stain,
            foreground=self.foreground if self.foreground == "masked" else bool(self.foreground),
        )

    def prepare(self, image: Image.Image) -> Image.Image:
        """Crop to the cell, normalise stains, crop to the centre and resize, as far as requested.

        Parameters
        ----------
        image : PIL.Image.Image
            An image in mode RGB, of any size.

        Returns
        -------
        PIL.Image.Image
            An image of `image_size` x `image_size` pixels.
        """
        size = (self.side, self.side)
        if self.foreground:
            image = (crop_masked if self.foreground == "masked" else crop_foreground)(image)
        if self.stain is not None:
            image = normalize_stain(image, self.stain)
        if self.crop_size is not None:
            return _crop_and_resize(image, self.crop_size, size)
        return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)

    @property
    def side(self) -> int:
        """Side of the square that the network takes, in pixels."""
        if self.image_size is None:
            raise ValueError("image_size=None depends on the backbone; resolve() takes it")
        return self.image_size

    @property
    def mean_and_std(self) -> tuple[_Triple, _Triple]:
        """Mean and standard deviation per channel, for pixels scaled to [0, 1]."""
        if not isinstance(self.normalize, str):
            return self.normalize
        if self.normalize == "backbone":
            raise ValueError('normalize="backbone" depends on the backbone; resolve() takes it')
        return {"unit": _UNIT, "imagenet": _IMAGENET}[self.normalize]

    def scale_and_shift(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the normalisation as one multiplication and one addition.

        Returns
        -------
        scale, shift : ndarray of shape (3,), float32
            ``pixels * scale + shift`` is the input of the network, up to the last bit or two.
        """
        mean, std = (np.array(part, np.float32) for part in self.mean_and_std)
        return np.float32(1) / (np.float32(255) * std), -mean / std

    def normalize_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Scale and normalise pixels.

        Parameters
        ----------
        pixels : ndarray of shape (n, h, w, 3), uint8
            RGB pixels.

        Returns
        -------
        ndarray of shape (n, 3, h, w), float32
            The input of the network.
        """
        mean, std = (np.array(part, np.float32) for part in self.mean_and_std)
        normalized = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(np.moveaxis(normalized, -1, 1))

    def describe(self) -> dict[str, Any]:
        """Return the transform as plain values, in the form that files and caches store.

        Returns
        -------
        dict
            Sizes in pixels, mean and standard deviation of each channel, stain and foreground.
        """
        mean, std = ([float(value) for value in part] for part in self.mean_and_std)
        return {
            "crop_size": None if self.crop_size is None else int(self.crop_size),
            "image_size": int(self.side),
            "mean": mean,
            "std": std,
            "stain": self.stain,
            "foreground": self.foreground,
        }


def _crop_and_resize(image: Image.Image, side: int, size: tuple[int, int]) -> Image.Image:
    """Crop the central square, padded with black where the image is smaller, and resize it."""
    if min(image.size) < side:
        warnings.warn(_PADDED.format(side), ImageWarning, stacklevel=3)
    # round() to even is torchvision's choice where the margin is odd.
    left, top = (max(0, round((length - side) / 2.0)) for length in image.size)
    width, height = (min(length, side) for length in image.size)
    image = image.crop((left, top, left + width, top + height))
    if image.size != (side, side) and side > _MAX_CANVAS:
        return _pad_and_resize(image, side, size[0])
    if image.size != (side, side):
        canvas = Image.new("RGB", (side, side))
        canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = canvas
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def _pad_and_resize(image: Image.Image, side: int, target: int) -> Image.Image:
    """Centre an image on a black square of `side` pixels, and resize that to `target` pixels.

    Only the part of the square that contains the image is drawn, so that a large square takes no
    memory. The result differs by at most two grey levels from that of the whole square.
    """
    scale = side / target
    reach = max(scale, 1.0)  # of the bilinear filter, in pixels of the square
    places = [(side - length) // 2 for length in image.size]
    # Pixels of the result that the image contributes to, and what of the square they cover.
    first = [max(0, math.floor((place - reach) / scale)) for place in places]
    last = [
        min(target, math.ceil((place + length + reach) / scale))
        for place, length in zip(places, image.size, strict=True)
    ]
    start = [max(0, math.floor(one * scale - reach)) for one in first]
    stop = [min(side, math.ceil(one * scale + reach)) for one in last]
    drawn = Image.new("RGB", (stop[0] - start[0], stop[1] - start[1]))
    drawn.paste(image, (places[0] - start[0], places[1] - start[1]))
    left, top, right, bottom = (
        min(max(end * scale - start[axis], 0.0), float(drawn.size[axis]))
        for ends in (first, last)
        for axis, end in enumerate(ends)
    )
    part = drawn.resize(
        (last[0] - first[0], last[1] - first[1]),
        Image.Resampling.BILINEAR,
        box=(left, top, right, bottom),
    )
    result = Image.new("RGB", (target, target))
    result.paste(part, (first[0], first[1]))
    return result


def keeps_pixels(transform: ImageTransform, shape: tuple[int, ...]) -> bool:
    """Return whether `transform.prepare` leaves images of a shape (h, w, ...) as they are."""
    changes = transform.foreground or transform.stain is not None or transform.crop_size is not None
    return not changes and shape[:2] == (transform.side, transform.side)
