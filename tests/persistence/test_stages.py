"""Files whose `extra_features` count widths are read as counting stages."""

from pathlib import Path

import effboost
from effboost.datasets import make_blood_cells

FILE = Path(__file__).parent / "golden" / "format-1-stages.effboost"


def test_pairs_of_older_files_are_translated_once(tmp_path):
    model = effboost.load(FILE)
    pairs = ((-9, "avg"), (-3, "max"), (-1, "std"))  # were -4, -3 and -1
    assert model.featurizer_.extra_features == pairs
    assert model.featurizer.extra_features == pairs
    images = make_blood_cells(2, 2, image_size=48, random_state=0).images
    again = effboost.load(effboost.save(model, tmp_path / "again.effboost"))
    assert again.featurizer_.extra_features == again.featurizer.extra_features == pairs
    assert (again.predict_proba(images) == model.predict_proba(images)).all()
