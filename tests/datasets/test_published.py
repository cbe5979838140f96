"""Each set on a tree with the names that it was published with, and its counts if known."""

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effboost.datasets import PUBLISHED, load_published
from effboost.exceptions import DatasetError, DroppedRowsWarning, IncompleteDataWarning

AML = {
    "BAS": 79,
    "EBO": 78,
    "EOS": 424,
    "KSC": 15,
    "LYA": 11,
    "LYT": 3937,
    "MMZ": 15,
    "MOB": 26,
    "MON": 1789,
    "MYB": 42,
    "MYO": 3268,
    "NGB": 109,
    "NGS": 8484,
    "PMB": 18,
    "PMO": 70,
}
PBC = {
    "basophil/BA": 1218,
    "eosinophil/EO": 3117,
    "erythroblast/ERB": 1551,
    "ig/MMY": 1015,
    "ig/MY": 1137,
    "ig/PMY": 592,
    "ig/IG": 151,
    "lymphocyte/LY": 1214,
    "monocyte/MO": 1420,
    "neutrophil/BNE": 1633,
    "neutrophil/SNE": 1646,
    "neutrophil/NEUTROPHIL": 50,
    "platelet/PLATELET": 2348,
}
TALEQANI = {"Benign/WBC-Benign": 504} | {
    f"{name}/WBC-Malignant-{name}": n for name, n in (("Early", 985), ("Pre", 963), ("Pro", 804))
}


def name_idb1():
    """Yield 108 pictures, 49 of them with blasts, and their tables of centroids."""
    for i in range(1, 109):
        yield f"ALL_IDB1/im/Im{i:03d}_{int(i <= 49)}.jpg"
        yield f"ALL_IDB1/xyc/Im{i:03d}_{int(i <= 49)}.xyc"


def name_idb2():
    for i in range(1, 261):
        yield f"ALL_IDB2/img/Im{i:03d}_{int(i <= 130)}.tif"


def name_sn_am():
    for name in ("ALL", "MM"):
        for i in range(1, 31):
            yield f"PKG - SN-AM/{name}/{name}_{i}.bmp"
            yield f"PKG - SN-AM/{name}/{name}_{i}_nucleus_mask.bmp"


def name_taleqani():
    for version in ("Original", "Segmented"):
        for stem, n in TALEQANI.items():
            for i in range(1, n + 1):
                yield f"{version}/{stem}-{i:03d}.jpg"


def name_pbc():
    for stem, n in PBC.items():
        for i in range(n):
            yield f"PBC_dataset_normal_DIB/{stem}_{i + 47}.jpg"


def name_aml():
    yield "PKG - AML-Cytomorphology_LMU/annotations.dat"
    for label, n in AML.items():
        for i in range(1, n + 1):
            yield f"PKG - AML-Cytomorphology_LMU/AML-Cytomorphology/{label}/{label}_{i:04d}.tiff"


def name_raabin():
    for part in ("Train", "TestA", "TestB"):
        for label in ("Basophil", "Eosinophil", "Lymphocyte", "Monocyte", "Neutrophil"):
            if part == "TestB" and label not in ("Lymphocyte", "Neutrophil"):
                continue
            yield f"{part}/{label}/20190526_162951_0.jpg"
            yield f"{part}/{label}/20190526_162951_1.jpg"
            yield f"{part}/{label}/95-5-1-{label}.jpg"


def name_lisc():
    for folder in ("Baso", "eosi", "lymp", "mono", "neut", "mixt"):
        for i in (1, 2):
            yield f"LISC Database/Main Dataset/{folder}/{i}.bmp"
            yield f"LISC Database/Ground Truth Segmentation/{folder}/{i}_expert.bmp"


def name_malaria():
    """Yield cells of 150 patients with malaria, one of them on two microscopes, and 50 without."""
    forms = ("thinF", "ThinF", "_ThinF", "N_ThinF", "NThinF", "thin_original", "ReThinF")
    infected = [f"C{39 + i}P{i}{forms[i % len(forms)]}" for i in range(1, 151) if i != 8]
    infected += ["C47P8thin_Original_Motic", "C47P8thinOriginalOlympusCX21"]
    infected[1] = "C41BP2_thinF"
    healthy = [f"C{i}_thinF" if i % 2 else f"C{i}NthinF" for i in range(201, 251)]
    yield from name_cells("Parasitized", infected, 13_779)
    yield from name_cells("Uninfected", [*infected, *healthy], 13_779)


def name_cells(label, slides, n):
    for i in range(n):
        slide = slides[i % len(slides)]
        yield f"cell_images/{label}/{slide}_IMG_20150619_114756a_cell_{i}.png"


TREES = {
    "all-idb1": name_idb1,
    "all-idb2": name_idb2,
    "sn-am": name_sn_am,
    "taleqani": name_taleqani,
    "pbc": name_pbc,
    "munich-aml": name_aml,
    "raabin": name_raabin,
    "lisc": name_lisc,
    "malaria": name_malaria,
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Build each tree once, of empty files, and remove it at the end."""
    root = tmp_path_factory.mktemp("published")
    for name, list_names in TREES.items():
        for below in list_names():
            file = root / name / below
            if not file.parent.is_dir():
                file.parent.mkdir(parents=True)
            file.touch()
    yield root
    load.cache_clear()
    shutil.rmtree(root)


@functools.lru_cache
def load(root, name):
    """Load a whole set, once for all tests."""
    return load_published(name, root / name)


@pytest.mark.parametrize("name", TREES)
def test_whole_set_has_the_published_counts(trees, name):
    data = load(trees, name)
    known = PUBLISHED[name]
    counts = dict(zip(*np.unique(data.target, return_counts=True), strict=True))
    assert data.target_names == sorted(known.classes.values()) == sorted(counts)
    if known.counts:
        assert counts == known.counts
    n = len(data.target)
    assert len(data.paths) == len(data.images) == len(data.site) == n
    for part in ("Source: ", "Licence: ", "Cite: ", "Groups: ", f"{n:,} images"):
        assert part in data.DESCR
    assert (data.groups is None) == (not known.has_groups)
    if data.groups is not None:
        assert data.images.groups.tolist() == data.groups.tolist()
        assert "" not in data.groups


def test_known_totals():
    totals = {name: sum(known.counts.values()) for name, known in PUBLISHED.items()}
    expected = {"all-idb1": 108, "all-idb2": 260, "taleqani": 3256, "pbc": 17_092}
    expected |= {"munich-aml": 18_365, "bccd": 4888, "malaria": 27_558, "bloodmnist": 17_092}
    assert {name: n for name, n in totals.items() if n} == expected


def test_copies_among_the_pictures_of_idb1_are_one_group(trees):
    data = load(trees, "all-idb1")
    names = [Path(path).stem[2:5] for path in data.paths]
    assert data.groups[names.index("093")] == data.groups[names.index("108")] == "093+108"
    assert len(set(data.groups)) == 107


def test_malaria_has_200_patients_who_are_in_both_classes(trees):
    data = load(trees, "malaria")
    infected = set(data.groups[data.target == "parasitized"])
    assert len(set(data.groups)) == 200
    assert len(infected) == 150
    assert infected < set(data.groups[data.target == "uninfected"])
    assert {"C41BP2", "C47P8", "C189P150", "C201", "C202"} <= set(data.groups)


def test_masks_and_mixed_cells_are_left_out(trees):
    assert len(load(trees, "sn-am").paths) == 60
    assert len(load(trees, "lisc").paths) == 10


def test_version_of_taleqani_is_chosen(trees):
    root = trees / "taleqani"
    original, segmented = (load_published("taleqani", root, version=v) for v in (None, "segmented"))
    assert len(original.paths) == len(segmented.paths) == 3256
    assert not set(original.paths) & set(segmented.paths)
    alone = load_published("taleqani", root / "Segmented", version="segmented")
    assert alone.paths.tolist() == segmented.paths.tolist()
    with pytest.raises(DatasetError, match=r"has no image of Taleqani: no path ends like"):
        load_published("taleqani", root / "Segmented")
    with pytest.raises(ValueError, match='must be "original" or "segmented"'):
        load_published("taleqani", root, version="cut")
    with pytest.raises(ValueError, match="has one version"):
        load_published("pbc", root, version="cut")


def test_pictures_group_cells_of_raabin_and_testb_is_another_site(trees):
    data = load(trees, "raabin")
    assert set(data.split) == {"train", "testa", "testb"}
    assert set(data.site[data.split == "testb"]) == {"Raabin-WBC TestB"}
    assert set(data.site[data.split != "testb"]) == {"Raabin-WBC"}
    assert "20190526_162951" in set(data.groups)
    assert "95-5-1-BASOPHIL" in set(data.groups)


def test_partial_copy_says_what_is_missing(trees, tmp_path):
    root = tmp_path / "pbc"
    shutil.copytree(trees / "pbc" / "PBC_dataset_normal_DIB" / "basophil", root / "basophil")
    with pytest.raises(DatasetError) as caught:
        load_published("pbc", root)
    text = str(caught.value)
    assert "0 of 3,117 eosinophil images" in text
    assert "basophil images" not in text
    assert "Mendeley" in text
    assert "CC BY 4.0" in text
    with pytest.warns(IncompleteDataWarning, match="0 of 2,348 platelet images"):
        data = load_published("pbc", root, allow_incomplete=True)
    assert data.target_names == ["basophil"]


@pytest.mark.parametrize("name", TREES)
def test_error_for_a_part_of_each_set_names_all_missing_classes(trees, tmp_path, name):
    data, known = load(trees, name), PUBLISHED[name]
    file = tmp_path / Path(data.paths[0]).relative_to(trees / name)
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(DatasetError, match=f"is not the whole set {known.title}: ") as caught:
        load_published(name, tmp_path)
    missing = set(data.target_names) - {data.target[0]}
    assert missing
    for label in missing:
        n = known.counts.get(label)
        expected = f"0 of {n:,} {label} images" if n else f"no {label} image"
        assert expected in str(caught.value)
    assert known.source in str(caught.value)


def test_missing_class_is_an_error_where_counts_are_uncertain(trees, tmp_path):
    shutil.copytree(trees / "sn-am" / "PKG - SN-AM" / "ALL", tmp_path / "ALL")
    with pytest.raises(DatasetError, match=r"no MM image\. Get SN-AM from the Cancer Imaging"):
        load_published("sn-am", tmp_path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_wrong_folder_says_where_to_get_the_set(tmp_path, name):
    (tmp_path / "cat.jpg").touch()
    known = PUBLISHED[name]
    with pytest.raises(DatasetError) as caught:
        load_published(name, tmp_path)
    for part in (known.title, known.example, known.source, known.licence):
        assert part in str(caught.value)
    with pytest.raises(DatasetError, match="does not exist"):
        load_published(name, tmp_path / "nowhere")


def test_unknown_set_and_file_for_a_folder_raise(tmp_path):
    with pytest.raises(ValueError, match=r"name='idb' is not a published set; they are all-idb1,"):
        load_published("idb", tmp_path)
    file = tmp_path / "pbc.zip"
    file.touch()
    with pytest.raises(DatasetError, match="is a file; give the folder with the unpacked images"):
        load_published("pbc", file)


# --- BCCD ----------------------------------------------------------------------------------


def write_annotation(root, name, objects):
    boxes = "".join(
        f"<object><name>{label}</name><pose>Unspecified</pose><bndbox><xmin>{box[0]}</xmin>"
        f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for label, box in objects
    )
    text = f"<annotation><filename>{name}.jpg</filename>{boxes}</annotation>"
    (root / "Annotations" / f"{name}.xml").write_text(text)


def write_photo(root, name, objects):
    """Write a photo and its annotation as BCCD has them; the colour of a pixel is its place."""
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(640) // 3, np.arange(480)[:, np.newaxis] // 2
    for folder in ("JPEGImages", "Annotations"):
        (root / "BCCD" / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / "BCCD" / "JPEGImages" / f"{name}.jpg", quality=95)
    write_annotation(root / "BCCD", name, objects)


@pytest.fixture
def photos(tmp_path):
    write_photo(
        tmp_path,
        "BloodImage_00000",
        [("WBC", (260, 177, 491, 376)), ("RBC", (600, 400, 660, 480)), ("RBC", (3, 3, 60, 70))],
    )
    write_photo(tmp_path, "BloodImage_00001", [("Platelets", (12, 30, 52, 66))])
    return tmp_path


def test_objects_are_cut_out_by_their_boxes(photos):
    with pytest.warns(IncompleteDataWarning, match="1 of 372 WBC images, 2 of 4,155 RBC"):
        data = load_published("bccd", photos, allow_incomplete=True)
    assert data.target.tolist() == ["WBC", "RBC", "RBC", "platelet"]
    assert data.groups.tolist() == ["BloodImage_00000"] * 3 + ["BloodImage_00001"]
    shapes = [image.shape[:2] for image in data.images]
    assert shapes == [(199, 231), (80, 40), (67, 57), (36, 40)]
    corner = data.images[0][0, 0].astype(int)
    assert abs(corner - [260 // 3, 177 // 2, 0]).max() <= 4


def test_whole_bccd_has_the_published_counts(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    left = ["WBC"] * 372 + ["RBC"] * 4155 + ["Platelets"] * 361
    for i in range(364):
        (tmp_path / "JPEGImages" / f"BloodImage_{i:05d}.jpg").touch()
        write_annotation(tmp_path, f"BloodImage_{i:05d}", [(x, (0, 0, 9, 9)) for x in left[i::364]])
    data = load_published("bccd", tmp_path)
    assert len(data.target) == 4888
    assert len(set(data.groups)) == 364


def test_tiny_objects_are_left_out_with_a_warning(photos):
    write_photo(photos, "BloodImage_00002", [("RBC", (5, 5, 5, 40)), ("RBC", (5, 5, 50, 50))])
    with (
        pytest.warns(DroppedRowsWarning, match="1 objects of BCCD are smaller than 8 x 8"),
        pytest.warns(IncompleteDataWarning),
    ):
        data = load_published("bccd", photos, allow_incomplete=True)
    assert len(data.target) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object></object></annotation>", "an object has no name"),
        ("<annotation>", "is not a Pascal VOC annotation"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "defines XML entities"),
        (
            "<annotation><object><name>WBC</name><bndbox><xmin>a</xmin></bndbox></object>"
            "</annotation>",
            "is not a Pascal VOC annotation",
        ),
    ],
)
def test_damaged_annotation_raises(photos, text, message):
    (photos / "BCCD" / "Annotations" / "BloodImage_00001.xml").write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_published("bccd", photos)


def test_annotation_without_its_photo_or_of_an_unknown_class_raises(photos):
    write_photo(photos, "BloodImage_00009", [("cat", (0, 0, 9, 9))])
    with pytest.raises(DatasetError, match="unknown class 'cat'"):
        load_published("bccd", photos)
    (photos / "BCCD" / "JPEGImages" / "BloodImage_00000.jpg").unlink()
    with pytest.raises(DatasetError, match=r"the photo of .*BloodImage_00000\.xml' is missing"):
        load_published("bccd", photos)


# --- MedMNIST ------------------------------------------------------------------------------


def write_npz(file, counts, **changes):
    parts = {"train": 11_959, "val": 1712, "test": 3421} if len(counts) == 8 else None
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)[:, np.newaxis]
    ends = np.cumsum([0, *(parts.values() if parts else (2, 1, len(labels) - 3))])
    arrays = {}
    for name, start, end in zip(("train", "val", "test"), ends[:-1], ends[1:], strict=True):
        arrays[f"{name}_images"] = np.full((end - start, 28, 28, 3), 100, np.uint8)
        arrays[f"{name}_labels"] = labels[start:end]
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(file, **arrays)


def test_bloodmnist_has_its_official_parts_and_counts(tmp_path):
    write_npz(tmp_path / "bloodmnist.npz", list(PUBLISHED["bloodmnist"].counts.values()))
    data = load_published("bloodmnist", tmp_path)
    assert data.paths is None
    assert data.groups is None
    assert dict(zip(*np.unique(data.split, return_counts=True), strict=True)) == {
        "train": 11_959,
        "val": 1712,
        "test": 3421,
    }
    assert data.images.shape == (17_092,)
    assert data.images[0].shape == (28, 28, 3)
    assert data.target[0] == "basophil"


def test_other_sets_of_medmnist_have_numbers_as_classes(tmp_path):
    write_npz(tmp_path / "pathmnist.npz", [3, 4])
    data = load_published("medmnist", tmp_path / "pathmnist.npz")
    assert data.target.tolist() == ["0"] * 3 + ["1"] * 4
    write_npz(tmp_path / "dermamnist.npz", [3, 4])
    with pytest.raises(DatasetError, match="has 2 files of MedMNIST: give one"):
        load_published("medmnist", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_labels": None}, "lacks the arrays val_labels"),
        ({"val_labels": np.zeros((1, 14), np.uint8)}, "one number for each image"),
        ({"test_images": np.zeros((4, 28, 28, 28), np.uint8)}, "two-dimensional images"),
        ({"val_labels": np.array([object()])}, "is not a file of MedMNIST"),
    ],
)
def test_npz_of_another_kind_raises(tmp_path, changes, message):
    write_npz(tmp_path / "pathmnist.npz", [3, 4], **changes)
    with pytest.raises(DatasetError, match=message):
        load_published("medmnist", tmp_path)


def test_damaged_npz_raises(tmp_path):
    (tmp_path / "bloodmnist.npz").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(DatasetError, match="is not a file of MedMNIST"):
        load_published("bloodmnist", tmp_path)
