"""What happens to a picture before the network sees it, described by plain data."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._transforms.foreground import crop_foreground
from effboost._transforms.stain import STAINS, normalize_stain
from effboost.exceptions import ImageWarning

__all__ = ["ImageTransform"]

_PADDED: Final = (
    "images smaller than crop_size={0} x {0} are padded with black, as torchvision's CenterCrop "
    "does; crop_size=None takes each image whole"
)


@dataclasses.dataclass(frozen=True)
class ImageTransform:
    """Centre crop, resize, scale: from a picture to what the network takes.

    The steps are those of the paper, and equal torchvision's `CenterCrop`, `Resize` (bilinear,
    antialiased), `ToDtype(scale=True)` and `Normalize` within one grey level.

    Parameters
    ----------
    crop_size : int or None, default=448
        Side of the centre crop, in pixels. Smaller images are padded with black. None crops
        nothing: the whole image is resized, and an oblong one is squeezed into a square.
    image_size : int, default=224
        Side of the square that the network takes, in pixels.
    mean, std : tuple of 3 floats, default=(0, 0, 0) and (1, 1, 1)
        Per-channel normalisation of the pixels once they are scaled to [0, 1].
    stain : {"reinhard", "macenko"} or None, default=None
        Bring the colours of the stains to one look before the crop. "reinhard": the mean and
        spread of the stained pixels in the space l-alpha-beta [1]_; "macenko": the colours of the
        two stains, and the amount of each at its 99th percentile [2]_. The look is that of
        Wright-stained white cells, the same for all. Black pixels stay black, and a picture
        without stain, or of one colour, stays as it is.
    foreground : bool, default=False
        Cut out the cell before all else: a square around the largest connected part that Otsu's
        threshold [3]_ parts from the background, with a margin of a tenth on each side. The
        background, dark or bright, is what most of the picture's border shows. A picture in which
        no cell of 8 x 8 pixels or more is found stays whole. With a `crop_size` the cell is then
        cut or padded to that; None enlarges each cell to `image_size`.

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
    >>> transform = ImageTransform(crop_size=448, image_size=224)
    >>> transform.resize(Image.new("RGB", (450, 450))).size
    (224, 224)
    >>> ImageTransform.from_dict(transform.to_dict()) == transform
    True
    """

    crop_size: int | None = 448
    image_size: int = 224
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    stain: str | None = None
    foreground: bool = False

    def __post_init__(self) -> None:
        if self.stain is not None and self.stain not in STAINS:
            known = ", ".join(map(repr, sorted(STAINS)))
            raise ValueError(f"stain={self.stain!r}; it is None, or one of {known}")

    def resize(self, image: Image.Image) -> Image.Image:
        """Cut out the cell and bring its stains to one look, if asked for; crop and resize.

        Parameters
        ----------
        image : PIL.Image.Image
            A picture in mode RGB, of any size.

        Returns
        -------
        PIL.Image.Image
            A picture of `image_size` x `image_size` pixels.
        """
        size = (self.image_size, self.image_size)
        if self.foreground:
            image = crop_foreground(image)
        if self.stain is not None:
            image = normalize_stain(image, self.stain)
        if self.crop_size is not None:
            image = _center_crop(image, self.crop_size)
        return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)

    def scale_and_shift(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Give the normalisation as one multiplication and one addition.

        Returns
        -------
        scale, shift : ndarray of shape (3,), float32
            ``pixels * scale + shift`` is what the network takes, up to the last bit or two.
        """
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return np.float32(1) / (np.float32(255) * std), -mean / std

    def normalize(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Scale and normalise pixels.

        Parameters
        ----------
        pixels : ndarray of shape (n, h, w, 3), uint8
            RGB pixels.

        Returns
        -------
        ndarray of shape (n, 3, h, w), float32
            What the network takes.
        """
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        normalized = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(np.moveaxis(normalized, -1, 1))

    def to_dict(self) -> dict[str, Any]:
        """Give the transform as a dictionary of plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageTransform:
        """Build the transform that `to_dict` described."""
        # JSON has lists where Python has tuples.
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**plain)


def _center_crop(image: Image.Image, side: int) -> Image.Image:
    if image.size == (side, side):
        return image
    if min(image.size) < side:
        warnings.warn(_PADDED.format(side), ImageWarning, stacklevel=2)
        image = _pad(image, side)
    # round() to even is torchvision's choice where the margin is odd.
    left, top = (round((length - side) / 2.0) for length in image.size)
    return image.crop((left, top, left + side, top + side))


def _pad(image: Image.Image, side: int) -> Image.Image:
    width, height = (max(length, side) for length in image.size)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas
