import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from effboost.datasets import make_blood_cells


@pytest.fixture(scope="module")
def cells():
    return make_blood_cells(24, 16, image_size=96, return_masks=True, random_state=0)


def test_shapes_and_types(cells):
    assert cells.images.shape == (384, 96, 96, 3)
    assert cells.images.dtype == np.uint8
    assert cells.masks.shape == (384, 96, 96)
    assert cells.masks.dtype == bool
    assert cells.target_names == ["ALL", "HEM"]
    assert len(np.unique(cells.groups)) == 24
    assert (cells.target == "ALL").sum() == 192
    assert "masks" not in make_blood_cells(2, 1, image_size=32)


@pytest.mark.parametrize("size", [32, 64, 450])
def test_each_image_has_one_cell_on_black_within_its_mask(size):
    cells = make_blood_cells(4, 2, image_size=size, return_masks=True, random_state=1)
    for picture, mask in zip(cells.images, cells.masks, strict=True):
        assert np.array_equal(picture.max(axis=2) > 0, mask)
        assert label(mask)[1] == 1
        assert 0.05 < mask.mean() < 0.5
        rows, columns = np.nonzero(mask)
        assert min(rows.min(), columns.min()) >= 1
        assert max(rows.max(), columns.max()) <= size - 2


def test_images_depend_on_seed_but_not_on_n_subjects():
    one = make_blood_cells(4, 3, image_size=48, random_state=5)
    again = make_blood_cells(4, 3, image_size=48, random_state=5)
    more = make_blood_cells(6, 3, image_size=48, random_state=5)
    other = make_blood_cells(4, 3, image_size=48, random_state=6)
    assert np.array_equal(one.images, again.images)
    assert np.array_equal(one.images, more.images[:12])
    assert not np.array_equal(one.images, other.images)


def test_subjects_have_one_class_each(cells):
    for subject in np.unique(cells.groups):
        assert len(np.unique(cells.target[cells.groups == subject])) == 1


def test_blasts_have_larger_and_finer_nuclei():
    cells = make_blood_cells(
        20, 8, image_size=128, subject_effect=0, return_masks=True, random_state=2
    )
    blast = cells.target == "ALL"
    dark_share, coarseness = [], []
    for picture, mask in zip(cells.images, cells.masks, strict=True):
        grey = picture.mean(axis=2)
        nucleus = mask & (gaussian_filter(grey, 2) < grey[mask].mean() + 12)
        dark_share.append(nucleus.sum() / mask.sum())
        core = gaussian_filter(grey, 1.5) - gaussian_filter(grey, 6)
        coarseness.append(core[nucleus].std())
    dark_share, coarseness = np.array(dark_share), np.array(coarseness)
    assert dark_share[blast].mean() > dark_share[~blast].mean() + 0.05
    assert coarseness[~blast].mean() > 1.2 * coarseness[blast].mean()


def colour_by_subject(subject_effect):
    cells = make_blood_cells(
        16, 8, image_size=48, subject_effect=subject_effect, return_masks=True, random_state=3
    )
    means = np.array([p[m].mean(axis=0) for p, m in zip(cells.images, cells.masks, strict=True)])
    names = np.unique(cells.groups)
    of_subject = np.array([means[cells.groups == g].mean(axis=0) for g in names])
    within = np.mean([means[cells.groups == g].std(axis=0) for g in names])
    # Every other subject has ALL: subjects are compared within a class.
    between = np.mean([of_subject[k::2].std(axis=0) for k in (0, 1)])
    return between / within


def test_subject_effect_controls_differences_of_stain():
    assert colour_by_subject(1.0) > 1.5
    assert colour_by_subject(0.0) < 1.0


def test_colour_does_not_predict_the_class_of_new_subjects():
    """Stain is the subject's; what tells the class is the shape and texture."""
    scores = []
    for seed in range(6):
        cells = make_blood_cells(24, 6, image_size=32, return_masks=True, random_state=seed)
        hue = np.array([p[m].mean(axis=0) for p, m in zip(cells.images, cells.masks, strict=True)])
        hue /= hue.sum(axis=1, keepdims=True)
        scores.append(
            cross_val_score(
                make_pipeline(StandardScaler(), LogisticRegression()),
                hue,
                cells.target,
                groups=cells.groups,
                cv=StratifiedGroupKFold(4),
            ).mean()
        )
    assert 0.3 < np.mean(scores) < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_split_by_image_is_too_optimistic(difficulty):
    gaps = []
    for seed in range(4):
        cells = make_blood_cells(
            20, 12, image_size=32, difficulty=difficulty, return_masks=True, random_state=seed
        )
        features = np.array(
            [
                np.r_[p[m].mean(axis=0), p[m].std(axis=0), m.mean()]
                for p, m in zip(cells.images, cells.masks, strict=True)
            ]
        )
        by_image, by_subject = (
            cross_val_score(
                RandomForestClassifier(60, random_state=0),
                features,
                cells.target,
                groups=cells.groups if splitter is StratifiedGroupKFold else None,
                cv=splitter(4, shuffle=True, random_state=0),
            ).mean()
            for splitter in (StratifiedKFold, StratifiedGroupKFold)
        )
        gaps.append(by_image - by_subject)
    assert np.mean(gaps) > 0.05


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("n_subjects", 1),
        ("n_subjects", 2.5),
        ("images_per_subject", 0),
        ("image_size", 16),
        ("difficulty", "medium"),
        ("subject_effect", -1),
        ("subject_effect", float("nan")),
    ],
)
def test_argument_out_of_range_raises(argument, value):
    with pytest.raises(ValueError, match=f"{argument}="):
        make_blood_cells(**{argument: value})
