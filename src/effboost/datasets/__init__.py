"""Loaders, generators and checks of labelled images, without torch."""

from effboost.datasets._blood_cells import make_blood_cells
from effboost.datasets._check import check_image_folder, check_images
from effboost.datasets._cnmc import load_cnmc, split_cnmc_preliminary
from effboost.datasets._combine import combine
from effboost.datasets._findings import DataCheck, Finding
from effboost.datasets._folder import list_images, load_image_folder
from effboost.datasets._published import load_published
from effboost.datasets._published_sets import PUBLISHED, PublishedSet

__all__ = [
    "PUBLISHED",
    "DataCheck",
    "Finding",
    "PublishedSet",
    "check_image_folder",
    "check_images",
    "combine",
    "list_images",
    "load_cnmc",
    "load_image_folder",
    "load_published",
    "make_blood_cells",
    "split_cnmc_preliminary",
]
