"""Images in every accepted form as a lazy sequence of RGB images."""

from effboost._images.sequence import ImageSequence, as_images, find_files, find_rgb, identify

__all__ = ["ImageSequence", "as_images", "find_files", "find_rgb", "identify"]
