"""What happens to a picture before the network sees it, described by plain data."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._foreground import crop_foreground
from effboost._stain import STAINS, jitter_stain, normalize_stain
from effboost.exceptions import ImageWarning

__all__ = ["ORIGINAL", "Augmentation", "ImageTransform", "Views"]

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


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random flips, rotation and colours, for training images alone.

    The paper flips horizontally and vertically with probability 0.2 each and rotates by up to
    10 degrees, after the resize. Bilinear interpolation with black corners is assumed here; the
    paper does not name it.

    Parameters
    ----------
    horizontal_flip, vertical_flip : float, default=0.2
        Probability of each flip.
    rotation : float, default=10.0
        Largest angle, in degrees, to either side.
    views : int, default=1
        Random views of each image in an epoch.
    quarter_turns : bool, default=False
        Turn by 0, 90, 180 or 270 degrees before that, each as likely: no pixel is interpolated
        or lost. With flips of 0.5 and ``rotation=0``, all eight views of a square are as likely.
    stain_jitter : float, default=0.0
        Scale the amount of each of three stains, haematoxylin, eosin and diaminobenzidine, by a
        factor up to so much above or below 1, and add up to so much to it, as an absorbance;
        Tellez et al. [1]_ take 0.05 and 0.2. Black pixels stay black.

    References
    ----------
    .. [1] D. Tellez et al., "Quantifying the effects of data augmentation and stain color
       normalization in convolutional neural networks for computational pathology", Medical Image
       Analysis 58, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> Augmentation().apply(Image.new("RGB", (32, 32)), np.random.default_rng(0)).size
    (32, 32)
    """

    horizontal_flip: float = 0.2
    vertical_flip: float = 0.2
    rotation: float = 10.0
    views: int = 1
    quarter_turns: bool = False
    stain_jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("horizontal_flip", "vertical_flip", "stain_jitter"):
            _check_number(name, getattr(self, name), Real, 0, 1)
        _check_number("rotation", self.rotation, Real, 0, 360)
        _check_number("views", self.views, Integral, 1, 1000)
        if not isinstance(self.quarter_turns, bool):
            raise ValueError(f"quarter_turns={self.quarter_turns!r} must be a boolean")

    def apply(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Draw one random view of a picture.

        Parameters
        ----------
        image : PIL.Image.Image
            A picture in mode RGB, already resized.
        rng : numpy.random.Generator
            Where the random numbers come from: three, one more for `quarter_turns`, and six for
            the stains if `stain_jitter` is above 0, whatever the other settings.

        Returns
        -------
        PIL.Image.Image
            A picture of the same size.
        """
        horizontal, vertical, turn = rng.random(3)
        if horizontal < self.horizontal_flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if vertical < self.vertical_flip:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if self.quarter_turns:
            image = image.rotate(90 * int(rng.integers(4)))  # moves pixels of a square exactly
        if self.rotation:
            angle = self.rotation * (2 * turn - 1)
            image = image.rotate(angle, Image.Resampling.BILINEAR)
        if self.stain_jitter:
            image = jitter_stain(image, self.stain_jitter, rng)
        return image

    def to_dict(self) -> dict[str, float]:
        """Give the augmentation as a dictionary of numbers."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Augmentation:
        """Build the augmentation that `to_dict` described."""
        return cls(**data)


@dataclasses.dataclass(frozen=True)
class Views:
    """How a picture is shown to the network for its features, and what becomes of the views.

    Parameters
    ----------
    dihedral : bool
        Show it in its eight orientations, quarter turns and their mirror images, instead of as
        it is.
    average : bool, default=True
        Give the mean of the views' features; or all of them, one after another.
    """

    dihedral: bool
    average: bool = True

    @property
    def count(self) -> int:
        """Number of views of a picture."""
        return 8 if self.dihedral else 1

    def show(self, picture: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
        """Give the views of a square picture of shape (h, w, 3), the picture itself first."""
        if not self.dihedral:
            return [picture]
        turned = [np.rot90(picture, quarter) for quarter in range(4)]
        return turned + [view[:, ::-1] for view in turned]

    def turn_back(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Give the mean of the views' feature maps, (count, d, h, w), as the picture lies."""
        if not self.dihedral:
            return maps[0]
        turned = [*maps[:4], *maps[4:, :, :, ::-1]]
        upright = [np.rot90(view, -k % 4, axes=(1, 2)) for k, view in enumerate(turned)]
        return np.mean(upright, axis=0, dtype=np.float32)

    def gather(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Make one row of each picture's rows, of shape (n_pictures * count, n_features)."""
        if self.count == 1:
            return rows
        of_picture = rows.reshape(-1, self.count, rows.shape[1])
        if self.average:
            return of_picture.mean(axis=1)
        return of_picture.reshape(len(of_picture), -1)


ORIGINAL: Final = Views(dihedral=False)


def _check_number(name: str, value: Any, kind: Any, low: float, high: float) -> None:
    if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
        what = "a whole number" if kind is Integral else "a number"
        raise ValueError(f"{name}={value!r} must be {what} from {low} to {high}")


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
