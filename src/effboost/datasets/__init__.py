"""Loading labelled images, and making some. None of it needs torch."""

from effboost.datasets._blood_cells import make_blood_cells
from effboost.datasets._folder import load_image_folder

__all__ = ["load_image_folder", "make_blood_cells"]
