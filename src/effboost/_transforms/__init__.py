"""Preparation of images for the network: crop, resize, stains, views, augmentation."""

from effboost._transforms.augmentation import Augmentation
from effboost._transforms.image_transform import ImageTransform, keeps_pixels
from effboost._transforms.views import ORIGINAL, Views

__all__ = ["ORIGINAL", "Augmentation", "ImageTransform", "Views", "keeps_pixels"]
