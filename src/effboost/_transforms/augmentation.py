"""Random views of training images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from PIL import Image

from effboost._transforms.stain import jitter_stain

__all__ = ["Augmentation"]


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


def _check_number(name: str, value: Any, kind: Any, low: float, high: float) -> None:
    if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
        what = "a whole number" if kind is Integral else "a number"
        raise ValueError(f"{name}={value!r} must be {what} from {low} to {high}")
