import pickle

import numpy as np
import pytest
from sklearn.utils import Bunch

from common.cnmc import write_tree
from effboost import evaluate
from effboost.datasets import combine, load_cnmc, load_image_folder, make_blood_cells
from effboost.exceptions import DatasetError, IncompleteDataWarning


def source(target, site=None, groups=None, seed=0):
    """Make a source of small images."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(target), 9, 9, 3), dtype=np.uint8)
    data = Bunch(images=pixels, target=np.array(target), groups=groups)
    if site is not None:
        data.site = np.full(len(target), site)
        data.DESCR = f"cells of {site}"
    return data


@pytest.fixture
def sources():
    one = source(["ALL", "HEM", "HEM"], "Oslo", np.array(["P1", "P2", "P2"]))
    other = source(["lymphoblast", "HEM", "platelet"], "Rome", np.array(["P1", "P3", "P1"]), seed=1)
    return one, other


def test_classes_are_renamed_sites_kept_and_groups_unique(sources):
    data = combine(*sources, classes={"lymphoblast": "ALL", "platelet": None})
    assert data.target.tolist() == ["ALL", "HEM", "HEM", "ALL", "HEM"]
    assert data.target_names == ["ALL", "HEM"]
    assert data.site.tolist() == ["Oslo"] * 3 + ["Rome"] * 2
    assert data.groups.tolist() == ["Oslo/P1", "Oslo/P2", "Oslo/P2", "Rome/P1", "Rome/P3"]
    assert data.images.groups.tolist() == data.groups.tolist()
    expected = [*sources[0].images, *sources[1].images[:2]]
    for images in (data.images, pickle.loads(pickle.dumps(data.images))):
        assert all(np.array_equal(a, b) for a, b in zip(images, expected, strict=True))
    assert data.paths is None
    assert data.DESCR == "cells of Oslo\ncells of Rome"


def test_each_source_can_have_its_own_names(sources):
    maps = [{"ALL": "blast"}, {"lymphoblast": "blast", "platelet": "HEM"}]
    data = combine(*sources, classes=maps)
    assert data.target.tolist() == ["blast", "HEM", "HEM", "blast", "HEM", "HEM"]
    with pytest.raises(DatasetError, match="'platelet', which is not a class of source 0"):
        combine(*sources, classes=[{"platelet": "HEM"}, {}])
    with pytest.raises(DatasetError, match="classes has 1 dicts for 2 sources"):
        combine(*sources, classes=[{}])


def test_images_without_groups_are_their_own():
    data = combine(source(["a", "b"]), source(["a", "b"], seed=1), names=["x", "y"])
    assert data.groups.tolist() == ["x/image 0", "x/image 1", "y/image 0", "y/image 1"]


def test_real_loaders_combine(tmp_path, paths, subjects):
    with pytest.warns(IncompleteDataWarning):
        cnmc = load_cnmc(write_tree(tmp_path / "cnmc"))
    rows = [
        f"{path},{kind},{who}"
        for path, kind, who in zip(paths, ["blast", "HEM"] * 12, subjects, strict=True)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,patient", *rows]))
    own = load_image_folder(tmp_path)
    data = combine(cnmc, own, classes={"blast": "ALL"}, names=["C-NMC", "own"])
    assert data.target[:8].tolist() == [cnmc.target_names[number] for number in cnmc.target]
    assert data.paths.tolist() == [*cnmc.paths, *own.paths]
    assert data.images.path(8) == own.paths[0]
    assert {"C-NMC/20+21", "own/S0"} <= set(data.groups)
    with pytest.warns(IncompleteDataWarning):
        final = load_cnmc(tmp_path / "cnmc", "all")
    with pytest.raises(DatasetError, match=r"5 images have no label \(-1\)"):
        combine(final, own, names=["C-NMC", "own"])


def test_combined_sources_can_be_evaluated_by_site():
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Red(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

        def predict(self, X):
            return self.classes_[[int(image.mean() > 60) for image in X]]

    cells = [
        make_blood_cells(n_subjects=8, images_per_subject=2, image_size=32, random_state=seed)
        for seed in (0, 1)
    ]
    data = combine(*cells, names=["A", "B"])
    report = evaluate(Red(), data.images, data.target, sites=data.site, cv=2, n_bootstrap=10)
    assert set(report.sites) == {"A", "B"}
    assert report.n_subjects == 16


def test_classes_that_do_not_meet_are_refused(sources):
    with pytest.raises(DatasetError, match=r"class 'ALL' is only in 'Oslo'.*\(HEM, lymphoblast, "):
        combine(*sources)
    with pytest.raises(DatasetError, match=r"class 'platelet' is only in 'Rome'.*'platelet': None"):
        combine(*sources, classes={"lymphoblast": "ALL"})
    with pytest.raises(DatasetError, match="renames 'blast', which is not a class of any source"):
        combine(*sources, classes={"blast": "ALL"})
    with pytest.raises(DatasetError, match="leaves out all images"):
        combine(*sources, classes=dict.fromkeys(("ALL", "HEM", "lymphoblast", "platelet")))


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (("A", "A"), "two sources are of the site 'A'"),
        (("A", None), "source 1 has no site"),
        (("PBC Barcelona", "BloodMNIST"), "BloodMNIST and PBC Barcelona show the same cells"),
        (("ALL-IDB1", "ALL-IDB2"), "show the same cells"),
    ],
)
def test_sites_that_are_one_or_unknown_are_refused(sites, message):
    parts = [source(["a", "b"], site, seed=i) for i, site in enumerate(sites)]
    with pytest.raises(DatasetError, match=message):
        combine(*parts)
    if "same cells" in message:
        with pytest.raises(DatasetError, match=message):
            combine(*parts, names=["A", "B"])


def test_wrong_number_of_sources_or_names_raises(sources):
    with pytest.raises(DatasetError, match="got 1 sources; give two or more"):
        combine(sources[0])
    with pytest.raises(DatasetError, match="names has 1 sites for 2 sources"):
        combine(*sources, names=["A"])
