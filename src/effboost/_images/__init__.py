"""Every accepted form of images as one lazy sequence of RGB pictures."""

from effboost._images.sequence import ImageSequence, as_images

__all__ = ["ImageSequence", "as_images"]
