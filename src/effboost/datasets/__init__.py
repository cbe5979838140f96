"""Loaders, generators and checks of labelled images, without torch."""

from effboost.datasets._blood_cells import make_blood_cells
from effboost.datasets._check import check_image_folder, check_images
from effboost.datasets._cnmc import load_cnmc, split_cnmc_preliminary
from effboost.datasets._findings import DataCheck, Finding
from effboost.datasets._folder import list_images, load_image_folder

__all__ = [
    "DataCheck",
    "Finding",
    "check_image_folder",
    "check_images",
    "list_images",
    "load_cnmc",
    "load_image_folder",
    "make_blood_cells",
    "split_cnmc_preliminary",
]
