"""What is known of published sets of blood cells: names of files, counts, licences and faults."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["PUBLISHED", "PublishedSet"]


@dataclasses.dataclass(frozen=True)
class PublishedSet:
    """Description of a published set that users download themselves.

    Attributes
    ----------
    title : str
        Its usual name, which is also the site of its images.
    pattern : str
        Regular expression for the end of an image's path, in any case. The group ``label`` is a
        key of `classes`; ``group``, if any, is the group of the image; ``part`` its official part.
    example : str
        The end of such a path.
    classes : mapping of str to str
        Names of the classes by the label in the path, in lower case.
    counts : mapping of str to int
        Images of each class that were published; empty if this is uncertain.
    source, licence, citation : str
        Where to get it, under which licence, and what to cite.
    groups : str
        What a group is, or why none is known.
    faults : tuple of str
        Known faults and traps.
    description : str
        What the images show.
    reader : {"files", "boxes", "npz"}
        Whether an image is a file, an object in a box of a photo, or a row of an array.
    versions : mapping of str to str
        Regular expressions for the paths of the versions of all images, the first is the default.
    sites : mapping of str to str
        Names of other sites by part.
    merged : tuple of tuple of str
        Groups that share pictures and are one.

    Examples
    --------
    >>> from effboost.datasets import PUBLISHED
    >>> PUBLISHED["all-idb1"].counts["ALL"], PUBLISHED["all-idb1"].has_groups
    (49, True)
    """

    title: str
    pattern: str
    example: str
    classes: Mapping[str, str]
    counts: Mapping[str, int]
    source: str
    licence: str
    citation: str
    groups: str
    faults: tuple[str, ...]
    description: str
    reader: str = "files"
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sites: Mapping[str, str] = dataclasses.field(default_factory=dict)
    merged: tuple[tuple[str, ...], ...] = ()

    @property
    def has_groups(self) -> bool:
        """Whether groups are known."""
        return self.reader == "boxes" or "group" in re.compile(self.pattern).groupindex

    def describe(self) -> str:
        """Return all that is known as a text.

        Returns
        -------
        str
            Several lines.
        """
        parts = [
            self.title,
            "=" * len(self.title),
            self.description,
            f"Groups: {self.groups}",
            f"Source: {self.source}",
            f"Licence: {self.licence}",
            f"Cite: {self.citation}",
            *(f"Known fault: {fault}" for fault in self.faults),
        ]
        return "\n".join(parts) + "\n"


_NO_GROUPS: Final = "none are published, so no split by subject exists. "
_WHITE: Final = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")

PUBLISHED: Final[Mapping[str, PublishedSet]] = MappingProxyType(
    {
        "all-idb1": PublishedSet(
            title="ALL-IDB1",
            pattern=r"im(?P<group>\d{3})_(?P<label>[01])\.jpe?g",
            example="ALL_IDB1/im/Im001_1.jpg",
            classes={"1": "ALL", "0": "healthy"},
            counts={"ALL": 49, "healthy": 59},
            source="https://homes.di.unimi.it/scotti/all, on application",
            licence="terms of the owners, given with the data; copies may not be passed on "
            "(uncertain: read the terms)",
            citation="R. Donida Labati, V. Piuri and F. Scotti, ALL-IDB: the acute lymphoblastic "
            "leukemia image database for image processing, ICIP 2011",
            groups="the picture. Patients are not published: pictures of one patient are in "
            "several groups.",
            faults=(
                "Im108_0 is a copy of Im093_0, and some pictures show overlapping parts of one "
                "smear (reported by users, not verified here); the two are one group here.",
                "Magnification (300 to 500) and size of the pictures vary, and may tell the "
                "classes apart.",
                "The counts of the classes are second-hand; 108 pictures are the owners' number.",
            ),
            description="108 pictures of smears with many cells, labelled by whether they show "
            "lymphoblasts.",
            merged=(("093", "108"),),
        ),
        "all-idb2": PublishedSet(
            title="ALL-IDB2",
            pattern=r"im\d{3}_(?P<label>[01])\.tiff?",
            example="ALL_IDB2/img/Im001_1.tif",
            classes={"1": "ALL", "0": "healthy"},
            counts={"ALL": 130, "healthy": 130},
            source="https://homes.di.unimi.it/scotti/all, on application",
            licence="terms of the owners, given with the data; copies may not be passed on "
            "(uncertain: read the terms)",
            citation="R. Donida Labati, V. Piuri and F. Scotti, ALL-IDB: the acute lymphoblastic "
            "leukemia image database for image processing, ICIP 2011",
            groups="not in the names. The cells are cut from the pictures of ALL-IDB1, so that "
            "the picture is the group: find it by template matching, for example "
            "skimage.feature.match_template, and give it as groups.",
            faults=(
                "Never use it together with ALL-IDB1 as other data: it shows the same cells.",
                "Five of the healthy crops repeat a cell (reported by users, not verified here).",
            ),
            description="260 cells, cut from ALL-IDB1 at 257 x 257 pixels.",
        ),
        "sn-am": PublishedSet(
            title="SN-AM",
            pattern=r"(?P<label>all|mm)/(?![^/]*mask)[^/]+\.bmp",
            example="ALL/ALL_1.bmp",
            classes={"all": "ALL", "mm": "MM"},
            counts={},
            source="the Cancer Imaging Archive, https://doi.org/10.7937/tcia.2019.of2w8lxr",
            licence="CC BY 3.0",
            citation="A. Gupta and R. Gupta, SN-AM dataset: white blood cancer dataset of B-ALL "
            "and MM for stain normalization, The Cancer Imaging Archive, 2019",
            groups=f"{_NO_GROUPS}Pictures of one patient may look alike.",
            faults=(
                "The number of pictures is uncertain: papers give 90 of ALL and 100 of MM, a copy "
                "of the archive's version has 31 and 30. It is not checked.",
                "There are no healthy subjects: the classes are two cancers.",
                "Files with 'mask' in their name are masks, and left out.",
            ),
            description="Pictures of bone marrow aspirates with acute lymphoblastic leukemia (ALL) "
            "and multiple myeloma (MM), 2560 x 1920 pixels with many cells.",
        ),
        "taleqani": PublishedSet(
            title="Taleqani",
            pattern=r"(?P<label>benign|early|pre|pro)/wbc-[a-z-]+-\d+\.jpe?g",
            example="Original/Early/WBC-Malignant-Early-001.jpg",
            classes={"benign": "benign", "early": "early", "pre": "pre", "pro": "pro"},
            counts={"benign": 504, "early": 985, "pre": 963, "pro": 804},
            source="https://doi.org/10.34740/KAGGLE/DSV/2175623 (mehradaria/leukemia)",
            licence="see the page of the source (uncertain)",
            citation="M. Ghaderzadeh et al., A fast and efficient CNN model for B-ALL diagnosis "
            "and its subtypes classification using peripheral blood smear images, International "
            "Journal of Intelligent Systems 37, 2022, doi 10.1002/int.22753",
            groups=f"{_NO_GROUPS}The 3,256 pictures are of 89 patients, about 37 each: no honest "
            "result by cross-validation is possible. Use the set as another site only.",
            faults=(
                "It holds each picture twice, in the folders Original and Segmented: read one.",
                "Another set on Kaggle with 3,242 pictures is a part of the same pictures "
                "(uncertain).",
                "All pictures have 224 x 224 pixels: they were resized by the owners.",
            ),
            description="Peripheral blood with benign hematogones, and three subtypes of ALL: "
            "early pre-B, pre-B and pro-B.",
            versions={"original": r"^(?!.*/segmented/)", "segmented": r"/segmented/"},
        ),
        "pbc": PublishedSet(
            title="PBC Barcelona",
            pattern=r"(?P<label>basophil|eosinophil|erythroblast|ig|lymphocyte|monocyte|neutrophil|"
            r"platelet)/[a-z]+_\d+\.jpe?g",
            example="basophil/BA_47.jpg",
            classes={
                **{name: name for name in (*_WHITE, "erythroblast", "platelet")},
                "ig": "immature granulocyte",
            },
            counts={
                "basophil": 1218,
                "eosinophil": 3117,
                "erythroblast": 1551,
                "immature granulocyte": 2895,
                "lymphocyte": 1214,
                "monocyte": 1420,
                "neutrophil": 3329,
                "platelet": 2348,
            },
            source="Mendeley Data, https://data.mendeley.com/datasets/snkd93bnjr",
            licence="CC BY 4.0",
            citation="A. Acevedo et al., A dataset of microscopic peripheral blood cell images for "
            "development of automatic recognition systems, Data in Brief 30, 2020",
            groups=f"{_NO_GROUPS}Cells of one donor are on both sides of any split.",
            faults=(
                "BloodMNIST consists of the same pictures: never use both.",
                "Some files are byte-identical copies: effboost check finds them.",
            ),
            description="17,092 single cells of healthy donors, 360 x 363 pixels, CellaVision "
            "DM96, May-Grünwald-Giemsa stain.",
        ),
        "munich-aml": PublishedSet(
            title="Munich AML",
            pattern=r"(?P<label>bas|ebo|eos|ksc|lya|lyt|mmz|mob|mon|myb|myo|ngb|ngs|pmb|pmo)/"
            r"(?P=label)_\d+\.tiff?",
            example="MYO/MYO_0001.tiff",
            classes={
                "bas": "basophil",
                "ebo": "erythroblast",
                "eos": "eosinophil",
                "ksc": "smudge cell",
                "lya": "atypical lymphocyte",
                "lyt": "lymphocyte",
                "mmz": "metamyelocyte",
                "mob": "monoblast",
                "mon": "monocyte",
                "myb": "myelocyte",
                "myo": "myeloblast",
                "ngb": "band neutrophil",
                "ngs": "neutrophil",
                "pmb": "bilobed promyelocyte",
                "pmo": "promyelocyte",
            },
            counts={
                "basophil": 79,
                "erythroblast": 78,
                "eosinophil": 424,
                "smudge cell": 15,
                "atypical lymphocyte": 11,
                "lymphocyte": 3937,
                "metamyelocyte": 15,
                "monoblast": 26,
                "monocyte": 1789,
                "myelocyte": 42,
                "myeloblast": 3268,
                "band neutrophil": 109,
                "neutrophil": 8484,
                "bilobed promyelocyte": 18,
                "promyelocyte": 70,
            },
            source="the Cancer Imaging Archive, https://doi.org/10.7937/tcia.2019.36f5o9ld "
            "(AML-Cytomorphology_LMU)",
            licence="CC BY 3.0",
            citation="C. Matek et al., Human-level recognition of blast cells in acute myeloid "
            "leukaemia with convolutional neural networks, Nature Machine Intelligence 1, 2019",
            groups="none are known: the cells are of 200 people, 100 of them with AML, but neither "
            "the names of the files nor annotations.dat name them; its four columns are a path "
            "such as BAS/BAS_0001.tiff and three labels (second-hand, from programs that read it). "
            "Whether the archive lists patients elsewhere is uncertain. No split by subject is "
            "possible without such a list.",
            faults=(
                "Blasts come from the patients, most other cells from anybody: a model may learn "
                "slides instead of cells.",
                "annotations.dat has two further labels for some of the images, which differ.",
            ),
            description="18,365 single leukocytes, 400 x 400 pixels, M8 scanner at 100 x with oil.",
        ),
        "raabin": PublishedSet(
            title="Raabin-WBC",
            pattern=r"(?P<part>train|testa|test-a|testb|test-b)/"
            r"(?P<label>basophil|eosinophil|lymphocyte|monocyte|neutrophil)/"
            r"(?P<group>\d{8}_\d{6}(?=_)|[^/]+(?=\.))[^/]*\.(?:jpe?g|png)",
            example="Train/Basophil/20190526_162951_0.jpg",
            classes={name: name for name in _WHITE},
            counts={},
            source="https://raabindata.com/free-data (double labelled cropped cells)",
            licence="called free by its owners, also for commercial use (second-hand); no licence "
            "was found (uncertain)",
            citation="Z. M. Kouzehkanan et al., A large dataset of white blood cells containing "
            "cell locations and types, along with segmented nuclei and cytoplasm, Scientific "
            "Reports 12:1123, 2022",
            groups="the picture that a cell was cut from, which is the date and time in the name. "
            "A smear has several pictures and is not in the name: cells of one smear are on both "
            "sides of a split by picture.",
            faults=(
                "The official parts Train and TestA come from the same smears and microscope, as "
                "far as is known; TestB is from another microscope and camera, and is a site of "
                "its own here (second-hand).",
                "TestB has neutrophils and lymphocytes only (second-hand).",
                "A few basophils are of a patient with leukemia (second-hand).",
            ),
            description="Single white cells, nearly all of healthy people; 10,175 in Train and "
            "4,339 in TestA.",
            sites={"testb": "Raabin-WBC TestB", "test-b": "Raabin-WBC TestB"},
        ),
        "bccd": PublishedSet(
            title="BCCD",
            pattern=r"annotations/(?P<group>[^/]+)\.xml",
            example="Annotations/BloodImage_00000.xml",
            classes={"wbc": "WBC", "rbc": "RBC", "platelets": "platelet"},
            counts={"WBC": 372, "RBC": 4155, "platelet": 361},
            source="https://github.com/Shenggan/BCCD_Dataset",
            licence="MIT",
            citation="https://github.com/Shenggan/BCCD_Dataset; photos of cosmicad/dataset and "
            "akshaylamba/all_CELL_data",
            groups="the photo. Objects of one photo overlap. The people are not published.",
            faults=(
                "Not all cells of a photo have a box.",
                "Copies by Roboflow are augmented and resized: their photos are not those of the "
                "source.",
            ),
            description="Objects of 364 photos of smears of 640 x 480 pixels, cut out by boxes.",
            reader="boxes",
        ),
        "lisc": PublishedSet(
            title="LISC",
            pattern=r"main[ _]dataset/(?P<label>baso|eosi|lymp|mono|neut)/\d+\.bmp",
            example="Main Dataset/Baso/1.bmp",
            classes={
                "baso": "basophil",
                "eosi": "eosinophil",
                "lymp": "lymphocyte",
                "mono": "monocyte",
                "neut": "neutrophil",
            },
            counts={},
            source="http://users.cecs.anu.edu.au/~hrezatofighi/Data/Leukocyte%20Data.htm",
            licence="terms of the owner on the page of the source (uncertain)",
            citation="S. H. Rezatofighi and H. Soltanian-Zadeh, Automatic recognition of five "
            "types of white blood cells in peripheral blood, Computerized Medical Imaging and "
            "Graphics 35, 2011",
            groups=f"{_NO_GROUPS}The pictures are of 8 people and 100 slides.",
            faults=(
                "The pictures have 720 x 576 pixels and show more than the labelled cell.",
                "The folder mixt holds pictures with cells of several classes, and is left out.",
                "Papers give 242 to 257 pictures; the number is not checked.",
            ),
            description="White cells of eight healthy people in peripheral blood.",
        ),
        "malaria": PublishedSet(
            title="NIH malaria",
            pattern=r"(?P<label>parasitized|uninfected)/"
            r"(?P<group>c\d+[ab]?(?:p\d+)?)n?_?(?:re)?thin[^/]*_cell_[^/]*\.png",
            example="Parasitized/C33P1thinF_IMG_20150619_114756a_cell_179.png",
            classes={"parasitized": "parasitized", "uninfected": "uninfected"},
            counts={"parasitized": 13_779, "uninfected": 13_779},
            source="https://data.lhncbc.nlm.nih.gov/public/Malaria/cell_images.zip",
            licence="none was found on the page of the source (uncertain)",
            citation="S. Rajaraman et al., Pre-trained convolutional neural networks as feature "
            "extractors toward improved malaria parasite detection in thin blood smear images, "
            "PeerJ 6:e4568, 2018",
            groups="the patient, C and P numbers in the name such as C33P1. There are 200: 150 "
            "with malaria, who have cells of both classes, and 50 healthy ones.",
            faults=(
                "Cells of one patient are in both classes, so stratified splits by image leak.",
                "The official table has 201 patients, because it counts C47P8 twice, once for each "
                "of two microscopes; here, it is one group.",
            ),
            description="Single red blood cells of thin smears.",
        ),
        "bloodmnist": PublishedSet(
            title="BloodMNIST",
            pattern=r"bloodmnist[^/]*\.npz",
            example="bloodmnist.npz",
            classes={
                "0": "basophil",
                "1": "eosinophil",
                "2": "erythroblast",
                "3": "immature granulocyte",
                "4": "lymphocyte",
                "5": "monocyte",
                "6": "neutrophil",
                "7": "platelet",
            },
            counts={
                "basophil": 1218,
                "eosinophil": 3117,
                "erythroblast": 1551,
                "immature granulocyte": 2895,
                "lymphocyte": 1214,
                "monocyte": 1420,
                "neutrophil": 3329,
                "platelet": 2348,
            },
            source="https://zenodo.org/records/10519652 (bloodmnist.npz, or a larger size)",
            licence="CC BY 4.0",
            citation="J. Yang et al., MedMNIST v2, Scientific Data 10:41, 2023; and A. Acevedo et "
            "al., Data in Brief 30, 2020",
            groups=f"{_NO_GROUPS}The official parts were drawn by image: donors are in all three.",
            faults=(
                "The pictures are those of PBC Barcelona, cropped and resized to 28 x 28 pixels.",
            ),
            description="17,092 single cells of healthy donors in three official parts.",
            reader="npz",
        ),
        "medmnist": PublishedSet(
            title="MedMNIST",
            pattern=r"[^/]+\.npz",
            example="pathmnist.npz",
            classes={},
            counts={},
            source="https://zenodo.org/records/10519652 (one .npz file for each set)",
            licence="CC BY 4.0 for most sets; see the page of the source",
            citation="J. Yang et al., MedMNIST v2, Scientific Data 10:41, 2023",
            groups=_NO_GROUPS.rstrip(),
            faults=("The names of the classes are not in the files: targets are their numbers.",),
            description="A set of MedMNIST with two-dimensional images and one label for each.",
            reader="npz",
        ),
    }
)
