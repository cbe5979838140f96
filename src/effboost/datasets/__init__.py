"""Loaders and generators of labelled images. None of it needs torch."""

from effboost.datasets._blood_cells import make_blood_cells
from effboost.datasets._cnmc import load_cnmc, split_cnmc_preliminary
from effboost.datasets._folder import load_image_folder

__all__ = ["load_cnmc", "load_image_folder", "make_blood_cells", "split_cnmc_preliminary"]
