import html
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

from common.networks import tiny_featurizer
from common.pages import find_contrast, launch_chromium
from effboost import HybridClassifier, evaluate
from effboost._utils.escape import escape_invisible
from effboost.exceptions import LeakageError, MissingDependencyError, UnsupportedInputError
from effboost.inspection import HTMLReport, report
from effboost.inspection._neighbours_display import find_and_picture

HOSTILE = (
    "<script>document.title='taken'<script>.png",
    "\"quoted' & <img src=x onerror=alert(1)>.png",
    "cell\u202egnp.exe.png",
    "{{ 7 * 7 }}{% raw %}.png",
)
SECTIONS = (
    "tested",
    "numbers",
    "confusion",
    "subjects",
    "mistakes",
    "decides",
    "calibration",
    "leakage",
    "settings",
    "limits",
)


class Page(HTMLParser):
    """What a browser would make of a page, as far as these tests ask."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Sixty pictures of ten subjects as files, four of them with hostile names and classes."""
    rng = np.random.default_rng(0)
    names = [*HOSTILE, *(f"cell_{i:02d}.png" for i in range(56))]
    y = np.array(["<b>blast</b>", r"$\frac{healthy"])[np.arange(60) % 2]
    groups = np.array([f"S{i % 10}" for i in range(60)], dtype=object)
    groups[groups == "S0"] = "<i>S0</i>\u200f"
    folder = tmp_path_factory.mktemp("cells")
    paths = [str(folder / name) for name in names]
    for i, path in enumerate(paths):
        pixels = rng.integers(0, 150, (40, 40, 3), dtype=np.uint8)
        pixels[..., i % 2] += rng.integers(0, 40, dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths, y, groups


@pytest.fixture(scope="module")
def clf(cells):
    paths, _, _ = cells
    rng = np.random.default_rng(1)
    # Learned from noise: it makes mistakes, on images with hostile names as well.
    y = rng.permutation(np.array(["<b>blast</b>", r"$\frac{healthy"])[np.arange(60) % 2])
    return HybridClassifier(tiny_featurizer(), random_state=0).fit(paths, y)


@pytest.fixture(scope="module")
def shown(clf, cells, tmp_path_factory):
    """The report on all pictures with all errors, and its page as it was written."""
    paths, y, groups = cells
    file = tmp_path_factory.mktemp("shown") / "report.html"
    made = report(clf, paths, y, groups=groups, path=file, n_mistakes=60, title="A *new* one")
    return made, Page(file.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_page_has_every_section_and_loads_nothing(shown):
    made, page = shown
    assert not page.open
    assert [a["id"] for a in page.all("h2")] == list(SECTIONS)
    assert [a["href"] for a in page.all("a")][1:] == [f"#{name}" for name in SECTIONS]
    assert len({a["id"] for _, a in page.tags if "id" in a}) == len(SECTIONS)
    assert not page.all("script")
    assert not page.all("iframe")
    sources = [a.get("src") or a.get("href") for tag, a in page.tags if tag in ("img", "link")]
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert not any(name.startswith("on") for _, a in page.tags for name in a)
    policy = next(a for a in page.all("meta") if a.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'")
    value = made.evaluation.metrics["accuracy"]
    assert str(value) in page.text
    assert f"about {round(100 * value.value)} are classified correctly" in page.text


@pytest.mark.slow
def test_page_is_accessible(shown):
    _, page = shown
    assert page.all("html") == [{"lang": "en"}]
    assert all(len(a["alt"]) > 20 for a in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    scrolling = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    assert page.all("a")[0] == {"class": "skip", "href": "#tested"}


@pytest.mark.slow
def test_hostile_names_are_escaped(shown):
    made, page = shown
    wrong = made.evaluation.y_true != made.evaluation.y_pred
    names = [escape_invisible(name) for name, w in zip(HOSTILE, wrong[:4], strict=True) if w]
    assert names
    assert all(" ".join(name.split()) in page.text for name in names)
    assert "<b>blast</b>" in page.text
    assert r"<i>S0</i>\u200f" in page.text
    for sign in "\u202e\u200f":
        assert sign not in made.html
        assert sign not in made.model_card
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"b", "i", "script"}
    assert not [a for a in page.all("img") if "onerror" in a]
    assert "49.png" not in made.html


def test_invisible_characters_are_shown_by_number():
    assert escape_invisible("a\u202eb\x07\n\ud800") == r"a\u202eb\u0007\u000a\ud800"
    assert escape_invisible("Größe 5 µm, 細胞") == "Größe 5 µm, 細胞"


def test_most_confident_errors_come_first(clf, cells):
    paths, y, groups = cells
    made = HTMLReport.from_estimator(clf, paths, y, groups=groups, n_mistakes=3)
    found = made.evaluation
    wrong = np.flatnonzero(found.y_true != found.y_pred)
    sure = found.probabilities.max(axis=1)[wrong]
    first = wrong[np.argsort(-sure, kind="stable")][:3]
    page = Page(made.html)
    assert f"{len(wrong)} of 60 images were classified wrongly" in page.text
    shown = [a["alt"].split(",")[0] for a in page.all("img") if a["alt"].startswith("Image of")]
    assert shown == [f"Image of {escape_invisible(groups[i])}" for i in first]
    assert f"The files are in {Path(paths[0]).parent}" in page.text
    names = [escape_invisible(Path(paths[i]).name) for i in first]
    places = [page.text.index(f"Image {name}") for name in names]
    assert places == sorted(places)
    assert "TreeSHAP" in page.text


@pytest.mark.slow
def test_overlap_with_training_data_is_reported(clf, cells, shown):
    paths, y, groups = cells
    assert "Not compared with the training images" in shown[0].html

    def compared(**training):
        known = {"groups": groups[:30], "n_mistakes": 0} | training
        return HTMLReport.from_estimator(clf, paths[:30], y[:30], **known)

    leaking = compared(X_train=paths[20:], groups_train=groups[20:])
    page = Page(leaking.html)
    assert "10 subjects are in both parts of the split" in page.text
    assert "10 pairs of identical images are in both parts of the split" in page.text
    alarms = [a for a in page.all("p") if a.get("role") == "alert"]
    assert len(alarms) == 1
    apart = compared(X_train=paths[30:], groups_train=["T"] * 30)
    assert "No subject and no image is in both training and test data" in apart.html
    unknown = compared(X_train=paths[30:], groups=None)
    assert "The subjects of the training images are not known" in unknown.html
    assert "Subjects are not known." in unknown.html
    tested = compared(X_train=paths[30:], groups_train=groups[30:], groups=None)
    numbered = compared(X_train=paths[30:], groups_train=np.arange(len(paths[30:])), groups=None)
    for page in (tested, numbered):
        assert "The subjects of the test images are not known" in page.html
        assert "No subject and no image is in both" not in page.html
        assert not [a for a in Page(page.html).all("p") if a.get("role") == "alert"]
    assert not [a for a in Page(unknown.html).all("p") if a.get("role") == "alert"]


@pytest.mark.slow
def test_errors_are_shown_beside_training_images_of_other_subjects(cells, monkeypatch):
    paths, y, groups = cells
    found = []

    def keep(training, X, subjects, n):
        neighbours, pictures = find_and_picture(training, X, subjects, n)
        found.append((training.images, neighbours))
        return neighbours, pictures

    monkeypatch.setattr("effboost.inspection._report_decisions.find_and_picture", keep)
    clf = HybridClassifier(tiny_featurizer(), random_state=0)
    # Labels that the pictures do not show: there are errors in each fold.
    y = np.random.default_rng(1).permutation(y)
    evaluation = evaluate(clf, paths, y, groups=groups, cv=2, return_estimator=True)
    page = Page(HTMLReport.from_evaluation(evaluation, paths, n_mistakes=6).html)
    assert "Below are the training images of each class" in page.text
    wrong = np.flatnonzero(evaluation.y_true != evaluation.y_pred)
    first = wrong[np.argsort(-evaluation.probabilities.max(axis=1)[wrong], kind="stable")][:6]
    assert len(found) == len(np.unique(evaluation.fold[first]))
    place = {path: i for i, path in enumerate(paths)}
    for fold, (images, neighbours) in zip(np.unique(evaluation.fold[first]), found, strict=True):
        shown = first[evaluation.fold[first] == fold]
        trained = [place[images.path(i)] for i in range(len(images))]
        assert set(evaluation.fold[trained]) == {1 - fold}
        for i, names in zip(shown, neighbours.names, strict=True):
            assert not {groups[place[name]] for name in names.ravel()} & {groups[i]}
    text = "above the most similar training images"
    assert sum(text in a["alt"] for a in page.all("img")) == len(first)


@pytest.mark.slow
def test_neighbours_of_a_fitted_model_need_labels_of_its_training_images(clf, cells):
    paths, y, groups = cells
    with pytest.raises(UnsupportedInputError, match="y_train are the labels of X_train"):
        HTMLReport.from_estimator(clf, paths, y, y_train=y)
    known = {"X_train": paths[30:], "groups_train": groups[30:], "groups": groups[:30]}
    made = HTMLReport.from_estimator(clf, paths[:30], y[:30], y_train=y[30:], n_mistakes=2, **known)
    assert "Below are the training images of each class" in made.html
    without = HTMLReport.from_estimator(clf, paths[:30], y[:30], n_mistakes=2, **known)
    assert "Below are the training images" not in without.html


def test_report_shows_what_decides(clf, cells):
    paths, y, groups = cells
    page = Page(HTMLReport.from_estimator(clf, paths, y, groups=groups, n_mistakes=0).html)
    assert "It was computed on 60 of the tested images." in page.text
    assert "last map 100 % 100 % 100 %" in page.text
    forest = HybridClassifier(tiny_featurizer(), RandomForestClassifier(3), random_state=0)
    made = HTMLReport.from_estimator(forest.fit(paths, y), paths, y, groups=groups, n_mistakes=0)
    assert "It cannot be told for this model: the head is RandomForestClassifier" in made.html


@pytest.mark.slow
def test_repeated_images_are_reported(clf, cells, tmp_path):
    paths, y, groups = cells
    copy = tmp_path / "copy.png"
    shutil.copy(paths[4], copy)
    made = HTMLReport.from_estimator(
        clf, [*paths, str(copy)], [*y, y[5]], groups=[*groups, "S9"], n_mistakes=0
    )
    page = Page(made.html)
    assert "1 image is repeated." in page.text
    assert "1 of them have two different labels" in page.text
    assert [a for a in page.all("p") if a.get("role") == "alert"]


@pytest.mark.slow
def test_report_of_a_cross_validation(cells):
    paths, y, groups = cells
    clf = HybridClassifier(tiny_featurizer(), random_state=0)
    made = HTMLReport.from_estimator(clf, paths, y, groups=groups, cv=3, n_mistakes=1)
    text = Page(made.html).text
    assert "In each of 3 folds, a new model was fitted" in text
    assert "No subject is in both training and test data." in text
    assert "featurizer__transform__image_size" in text
    assert "HybridClassifier (TinyNet and XGBClassifier)" in text
    evaluation = evaluate(clf, paths, y, groups=groups, cv=3)
    bare = Page(HTMLReport.from_evaluation(evaluation, paths).html).text
    assert "this evaluation did not keep the fitted models" in bare
    assert str(evaluation.metrics["accuracy"]) in bare
    with pytest.raises(UnsupportedInputError, match="X has 3 images, but 60 were evaluated"):
        HTMLReport.from_evaluation(evaluation, paths[:3])
    with pytest.raises(UnsupportedInputError, match="X_train requires cv="):
        HTMLReport.from_estimator(clf, paths, y, groups=groups, cv=3, X_train=paths)
    with pytest.raises(LeakageError):
        HTMLReport.from_estimator(clf, [*paths, paths[0]], [*y, y[0]], groups=[*groups, "Z"], cv=3)


@pytest.mark.slow
def test_report_of_a_fine_tuned_hybrid_also_shows_the_network(cells):
    paths, y, groups = cells
    clf = HybridClassifier(tiny_featurizer(fine_tune=True, max_epochs=2), random_state=0)
    made = HTMLReport.from_estimator(
        clf, paths, y, groups=groups, cv=2, pos_label=y[0], n_mistakes=0
    )
    text = Page(made.html).text
    assert "Network alone" in text
    assert "Accuracy of the hybrid minus that of the network alone" in text
    assert "sens. at 95 % spec." in text
    assert "Accuracy of the network by epoch" in made.html


@pytest.mark.slow
def test_other_heads_are_explained_by_occlusion(cells):
    paths, y, groups = cells
    clf = HybridClassifier(
        tiny_featurizer(), RandomForestClassifier(5, random_state=0), random_state=0
    )
    made = HTMLReport.from_estimator(clf.fit(paths, y[::-1]), paths, y, groups=groups, n_mistakes=1)
    assert "when that part of the picture is hidden (occlusion)" in made.html


def test_report_without_scikit_image_explains_missing_heat_maps(cells, monkeypatch):
    paths, y, groups = cells
    clf = HybridClassifier(
        tiny_featurizer(), RandomForestClassifier(5, random_state=0), random_state=0
    )
    clf.fit(paths, y[::-1])
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    made = HTMLReport.from_estimator(clf, paths, y, groups=groups, n_mistakes=1)
    assert "There are no heat maps: this needs skimage" in html.unescape(made.html)


def test_file_with_many_subjects_stays_small(clf, cells):
    paths, y, _ = cells
    several = np.resize(np.arange(60), 240)
    # Of either class, so that each has the mark that takes most room.
    groups = [f"S{i // 2}" for i in range(240)]
    X = [paths[i] for i in several]
    made = HTMLReport.from_estimator(clf, X, y[several], groups=groups, n_mistakes=0)
    (picture,) = [a for a in Page(made.html).all("img") if "of each of 120 subjects" in a["alt"]]
    assert picture["src"].startswith("data:image/png")
    assert len(made.html) < 500_000


def test_report_without_errors(cells):
    paths, y, _ = cells
    clf = HybridClassifier(tiny_featurizer(), random_state=0).fit(paths, y)
    assert clf.score(paths, y) == 1
    assert "No image was classified wrongly." in HTMLReport.from_estimator(clf, paths, y).html


@pytest.mark.slow
def test_model_card_escapes_markdown(shown, tmp_path):
    file = shown[0].save_model_card(tmp_path / "MODEL_CARD.md")
    card = file.read_text(encoding="utf-8")
    assert card.startswith(r"# Model card: A \*new\* one")
    assert r"\<b\>blast\</b\>" in card
    assert "<b>" not in card
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows[:4]}) == 1
    assert re.search(r"\| accuracy \| 0\.\d{3} ", card)


@pytest.mark.slow
def test_failed_write_leaves_no_partial_file(shown, tmp_path):
    made, _ = shown
    with pytest.raises(OSError, match="report"):
        made.save(tmp_path / "nowhere" / "report.html")
    target = tmp_path / "out" / "report.html"
    target.parent.mkdir()
    made.save(target)
    made.save(target)
    assert [file.name for file in target.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("package", ["jinja2", "matplotlib.pyplot"])
def test_missing_packages_raise_with_the_extra_before_the_work(cells, monkeypatch, package):
    paths, y, groups = cells
    monkeypatch.setitem(sys.modules, package, None)
    unfitted = HybridClassifier(tiny_featurizer())
    with pytest.raises(MissingDependencyError, match=r"effboost\[report\]"):
        HTMLReport.from_estimator(unfitted, paths, y, groups=groups)
    with pytest.raises(MissingDependencyError, match=r"effboost\[report\]"):
        HTMLReport.from_evaluation(None, paths)


@pytest.fixture(scope="module")
def written(clf, cells, tmp_path_factory):
    """A report on 200 images, of which those with hostile names are the mistakes."""
    paths, _, groups = cells
    several = np.resize(np.arange(60), 200)
    said = clf.predict(paths)
    true = said.copy()
    true[:4] = np.where(said[:4] == clf.classes_[0], *clf.classes_[::-1])
    made = HTMLReport.from_estimator(
        clf, [paths[i] for i in several], true[several], groups=groups[several], n_mistakes=14
    )
    return made.save(tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def browser():
    with launch_chromium() as chromium:
        yield chromium


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (360, 740)], ids=["desktop", "phone"])
def test_browser_shows_the_page_and_loads_nothing(browser, written, cells, scheme, size):
    assert written.stat().st_size < 10_000_000
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(written.as_uri())
    page.wait_for_load_state("networkidle")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [written.as_uri()]
    assert page.title().startswith("Report on HybridClassifier")
    for name in SECTIONS:
        assert page.locator(f"#{name}").is_visible()
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    # Wide tables scroll in themselves; the page does not.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    text = page.inner_text("body")
    assert "<b>blast</b>" in text
    for name in (*HOSTILE, cells[2][0]):
        assert escape_invisible(name) in text
    contrast, n_texts = find_contrast(page)
    assert n_texts > 50
    assert contrast >= 4.5
    context.close()
