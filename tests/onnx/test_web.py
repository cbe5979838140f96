import base64
import csv
import functools
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from PIL.PngImagePlugin import PngInfo

from common.exported import cells, edited, tiny_file, tiny_hybrid
from common.pages import find_contrast, launch_chromium, serve
from effboost import export_onnx
from effboost.exceptions import UnsupportedInputError
from effboost.onnx import _web
from effboost.onnx._web import check_web, write_page
from effboost.onnx._web_runtime import BINARY, CDN, HASHES, SCRIPT, VERSION, read_runtime
from onnx import parser

FILES = [
    "LICENSES.txt",
    "README.md",
    "csv.js",
    "headers.js",
    "icon.svg",
    "index.html",
    "model.json",
    "model.onnx",
    "page.css",
    "page.js",
    "subjects.js",
    "worker.js",
]
TEMPLATES = Path(_web.__file__).parent / "templates" / "web"
FAKE = {SCRIPT: b"script", BINARY: b"binary"}
CLASSES = np.array(["a", "b"])


# --- without a browser -------------------------------------------------------------------------


def policy_of(folder):
    text = (folder / "index.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    return dict(part.split(" ", 1) for part in policy.split("; "))


def test_the_folder_contains_all_needed_files(tmp_path):
    made = write_page(tmp_path / "page", b"graph", CLASSES, "net", FAKE)
    found = [str(file.relative_to(made)) for file in made.rglob("*") if file.is_file()]
    runtime = [f"runtime/{BINARY}", "runtime/ort.wasm.bundle.min.js"]
    assert sorted(found) == sorted([*FILES, *runtime])
    for name in ("README.md", "index.html"):
        assert "$" not in (made / name).read_text(encoding="utf-8")
    licences = (made / "LICENSES.txt").read_text(encoding="utf-8")
    root = Path(__file__).parents[2]
    assert (root / "LICENSE").read_text(encoding="utf-8").strip() in licences
    assert "Copyright (c) Microsoft Corporation" in licences
    assert "not a medical device" in (made / "index.html").read_text(encoding="utf-8")


def test_the_page_names_no_other_origin_and_its_policy_allows_none(tmp_path):
    made = write_page(tmp_path / "page", b"graph", CLASSES, "net", FAKE)
    for file in made.glob("*.*"):
        if file.name not in ("LICENSES.txt", "README.md", "icon.svg"):
            found = re.search(rb"(https?|wss?|ftp):|[\"'`(]//", file.read_bytes())
            assert found is None, file.name
    policy = policy_of(made)
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["connect-src"] == policy["style-src"] == "'self'"
    assert not re.search("unsafe-inline|unsafe-eval'?$|http|\\*", " ".join(policy.values()))
    text = (made / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)


def test_scripts_write_no_html():
    for script in TEMPLATES.glob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text
        )


def test_the_description_has_the_hashes_of_the_files(tmp_path):
    made = write_page(tmp_path / "page", b"graph", np.array([0, 1]), "net", FAKE)
    found = json.loads((made / "model.json").read_text(encoding="utf-8"))
    digest = base64.b64encode(hashlib.sha384(b"graph").digest()).decode()
    assert found["graph"] == {"url": "model.onnx", "integrity": f"sha384-{digest}"}
    assert found["classes"] == ["0", "1"]
    for name in ("script", "binary"):
        assert (made / found[name]["url"]).read_bytes() == name.encode()
        assert found[name]["integrity"] in HASHES.values()


def test_a_page_with_a_cdn_names_only_the_fixed_version_and_its_hashes(tmp_path):
    made = export_onnx(tiny_hybrid(), tmp_path / "page", web=True, web_runtime="cdn")
    assert sorted(file.name for file in made.iterdir()) == FILES
    assert (made / "model.onnx").read_bytes() == tiny_file()
    assert f"@{VERSION}/" in CDN
    assert policy_of(made)["connect-src"] == f"'self' {CDN}"
    found = json.loads((made / "model.json").read_text(encoding="utf-8"))
    assert found["script"] == {"url": CDN + SCRIPT, "integrity": HASHES[SCRIPT], "blob": True}
    assert found["binary"] == {"url": CDN + BINARY, "integrity": HASHES[BINARY]}
    assert found["classes"] == ["blast", "healthy", "other"]


def test_a_folder_that_is_not_empty_is_refused_before_the_export(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        check_web(tmp_path, tiny_hybrid(), "cdn")
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        export_onnx(tiny_hybrid(), tmp_path, web=True, web_runtime="cdn")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_settings_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(UnsupportedInputError, match="standalone=True and web=True are two"):
        export_onnx(tiny_hybrid(), tmp_path / "out", standalone=True, web=True)
    with pytest.raises(UnsupportedInputError, match="web_runtime=True must be a path"):
        export_onnx(tiny_hybrid(), tmp_path / "out", web=True, web_runtime=True)
    with pytest.raises(UnsupportedInputError, match="web_runtime='cdn' has no effect"):
        export_onnx(tiny_hybrid(), tmp_path / "out", web_runtime="cdn")
    assert list(tmp_path.iterdir()) == []


def test_classes_that_a_page_cannot_tell_apart_are_refused(tmp_path):
    class Model:
        classes_ = np.array([1, "1"], dtype=object)

    with pytest.raises(UnsupportedInputError, match="several classes that are written as '1'"):
        check_web(tmp_path / "page", Model(), "cdn")


# --- in a browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runtime_files(tmp_path_factory):
    """Return the package of onnxruntime-web, from EFFBOOST_ONNXRUNTIME_WEB or npm."""
    named = os.environ.get("EFFBOOST_ONNXRUNTIME_WEB")
    if named:
        return Path(named)
    if shutil.which("npm") is None:
        pytest.skip("neither EFFBOOST_ONNXRUNTIME_WEB nor npm: onnxruntime-web cannot be had")
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "pack", f"onnxruntime-web@{VERSION}", "--prefer-offline"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=200)
    if done.returncode:
        pytest.skip(f"npm cannot download onnxruntime-web {VERSION}")
    return folder / f"onnxruntime-web-{VERSION}.tgz"


@pytest.fixture(scope="module")
def folder(runtime_files, tmp_path_factory):
    return export_onnx(
        tiny_hybrid(),
        tmp_path_factory.mktemp("web") / "page",
        web=True,
        web_runtime=runtime_files,
    )


@pytest.fixture(scope="module")
def browser():
    with launch_chromium() as chromium:
        yield chromium


def open_in(context, server):
    """Open a server's page; what it complains of is in `said`, what it asks for in `asked`."""
    page = context.new_page()
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    context.on("request", lambda request: page.asked.append(request.url))
    page.goto(server.url)
    return page


@pytest.fixture
def open_page(browser):
    """Return a function that opens a server's page."""
    context = browser.new_context(accept_downloads=True)
    yield functools.partial(open_in, context)
    context.close()


def wait_until_ready(page):
    page.wait_for_selector("body[data-ready]", timeout=60_000)


@pytest.fixture(scope="module")
def loaded_page(folder, browser):
    """Return a page whose server was stopped after it was loaded."""
    context = browser.new_context(accept_downloads=True)
    with serve(folder) as server:
        page = open_in(context, server)
        wait_until_ready(page)
    page.server = server
    yield page
    context.close()


@pytest.fixture
def page(loaded_page):
    """Return the loaded page without images; it must not complain."""
    yield loaded_page
    if loaded_page.locator("#pattern").is_visible():
        loaded_page.fill("#pattern", "")
        loaded_page.click("#clear")
    assert loaded_page.said == []


def wait_for(page, selector, pattern):
    page.locator(selector).filter(has_text=re.compile(pattern)).wait_for(timeout=60_000)


def classify(page, paths, n_rows=None):
    """Choose files, wait for their results, and return the rows of the CSV."""
    page.set_input_files("#files", list(map(str, paths)))
    return rows_of(page, len(paths) if n_rows is None else n_rows)


def rows_of(page, n_rows, button="save"):
    wait_for(page, "#status", rf"^{n_rows} images?(,.*)?\.$")
    with page.expect_download() as download:
        page.click(f"#{button}")
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def save_all(folder, suffixes, seed=3):
    folder.mkdir(exist_ok=True)
    paths = [folder / f"S{i % 3}_{i}{suffix}" for i, suffix in enumerate(suffixes)]
    for path, picture in zip(paths, cells(len(paths), seed=seed)[0], strict=True):
        Image.fromarray(picture).save(path)
    return paths


def check_results(rows, paths):
    expected = tiny_hybrid().predict_proba(paths)
    got = [[float(row[f"p_{label}"]) for label in tiny_hybrid().classes_] for row in rows]
    table = tiny_hybrid().check_familiarity(paths)
    np.testing.assert_allclose([float(row["familiarity"]) for row in rows], table.p_values, 0, 1e-4)
    assert [row["familiar"] for row in rows] == [str(f).lower() for f in table.familiar.tolist()]
    assert [row["reasons"] for row in rows] == [" ".join(reasons) for reasons in table.reasons]
    assert [row["image"] for row in rows] == [path.name for path in paths]
    assert [row["class"] for row in rows] == tiny_hybrid().predict(paths).tolist()
    assert np.abs(np.array(got) - expected).max() <= 1e-5


def xmp_of(orientation):
    return b'<rdf:Description tiff:Orientation="%d"/>' % orientation


def with_text(key, text):
    info = PngInfo()
    info.add_itxt(key, text.decode())
    return info


def save_turned(folder):
    """Save images that Pillow turns or reads as the first picture, and Chromium does not."""
    tall = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 36, 3), dtype=np.uint8))
    tall.save(folder / "xmp.jpg", xmp=xmp_of(6))
    tall.save(folder / "xmp.webp", lossless=True, xmp=xmp_of(6))
    tall.save(folder / "xmp.png", pnginfo=with_text("XML:com.adobe.xmp", xmp_of(6)))
    tall.save(folder / "profile.png", pnginfo=with_text("Raw profile type exif", b"\n\n\n4d4d"))
    long = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0\x06\0\0\0\0"
    tall.save(folder / "long.jpg", exif=long)
    exif = Image.Exif()
    exif[0x0112] = 6
    tall.save(folder / "late.png", exif=exif)
    late = (folder / "late.png").read_bytes()
    at = late.index(b"eXIf") - 4
    chunk = late[at : at + 12 + int.from_bytes(late[at : at + 4])]
    (folder / "late.png").write_bytes(late.replace(chunk, b"")[:-12] + chunk + late[-12:])
    tall.save(folder / "apart.png", save_all=True, default_image=True, append_images=[tall, tall])
    header = b"BM" + (1078 + 4).to_bytes(4, "little") + bytes(4) + (1078).to_bytes(4, "little")
    header += (40).to_bytes(4, "little") + (9).to_bytes(4, "little") * 2
    header += b"\x01\0\x08\0\x01\0\0\0" + bytes(20)
    (folder / "lengths.bmp").write_bytes(header + bytes(1024) + b"\0\x02\x01\x01\0\x01")
    turned = "may have an orientation that browsers do not apply"
    names = ("xmp.jpg", "xmp.webp", "xmp.png", "profile.png", "long.jpg", "late.png")
    return dict.fromkeys(names, turned) | {
        "apart.png": "is an animation without its first picture",
        "lengths.bmp": "is run-length encoded",
    }


@pytest.mark.slow
def test_results_equal_those_of_the_model_also_without_the_server(page, tmp_path):
    suffixes = [".png", ".bmp", ".jpg", ".webp", ".png", ".bmp", ".jpeg", ".png"]
    paths = save_all(tmp_path / "cells", suffixes)
    turned = Image.Exif()
    turned[0x0112] = 6
    tall = np.random.default_rng(0).integers(0, 256, (60, 36, 3), dtype=np.uint8)
    Image.fromarray(tall).save(paths[0], exif=turned)
    Image.fromarray(tall).save(paths[2], exif=turned)
    Image.fromarray(tall).save(paths[6], exif=turned, xmp=xmp_of(6))
    Image.fromarray(tall).save(paths[7], pnginfo=with_text("XML:com.adobe.xmp", xmp_of(1)))
    check_results(classify(page, paths), paths)
    assert {url.split(":")[0] for url in page.asked} == {"http", "blob"}
    assert all(url.startswith((page.server.url, "blob:")) for url in page.asked)
    assert len(page.server.asked) == len(FILES) - 2 + 2  # without the texts, with the runtime


@pytest.mark.slow
def test_what_cannot_be_read_is_a_row_with_its_reason(page, tmp_path):
    (good, cut, short) = save_all(tmp_path, [".png", ".png", ".jpg"])
    cut.write_bytes(cut.read_bytes()[:3000])
    short.write_bytes(short.read_bytes()[:-100])
    Image.new("1", (10_000, 6_000)).save(tmp_path / "large.png")
    Image.new("RGB", (7, 30)).save(tmp_path / "small.png")
    Image.new("RGBA", (40, 40), (200, 100, 50, 128)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((40, 40), 4000, dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.new("CMYK", (40, 40)).save(tmp_path / "cmyk.jpg")
    Image.new("RGB", (40, 40)).save(tmp_path / "scan.tif")
    (tmp_path / "drawing.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"/>'
    )
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "header.png").write_bytes(good.read_bytes()[:20])
    reasons = {
        cut.name: "is damaged or truncated",
        short.name: "is damaged or truncated",
        "large.png": "is 10000 x 6000 pixels, more than the 33,554,432",
        "small.png": "is 7 x 30 pixels; at least 8 x 8 are needed",
        "clear.png": "has transparent pixels",
        "deep.png": "has 16 bits per channel",
        "cmyk.jpg": "has CMYK colours",
        "scan.tif": "is a TIFF file",
        "drawing.svg": "is not an image that this page reads",
        "notes.txt": "is not an image that this page reads",
        "empty.png": "the file is empty",
        "header.png": "is damaged or truncated",
        **save_turned(tmp_path),
    }
    rows = classify(page, [*(tmp_path / name for name in reasons), good])
    check_results(rows[-1:], [good])
    for row, (name, reason) in zip(rows[:-1], reasons.items(), strict=True):
        assert row["image"] == name
        assert row["error"].startswith(reason)
        assert row["class"] == row["p_blast"] == ""
    assert page.locator("td.reason").count() == len(reasons)
    assert f"{len(reasons)} of them could not be read" in page.inner_text("#status")


@pytest.mark.slow
def test_a_folder_can_be_dropped_and_results_are_aggregated_by_subject(page, tmp_path):
    paths = save_all(tmp_path / "cells", [".png"] * 9)
    (tmp_path / "cells" / ".hidden").write_text("metadata")
    drag = {"items": [], "files": [str(tmp_path / "cells")], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 300, "data": drag})
    rows = rows_of(page, 9)
    names = [f"cells/{path.name}" for path in paths]
    assert [row["image"] for row in rows] == sorted(names)
    page.fill("#pattern", r"^(S\d)_")
    by_pattern = rows_of(page, 9, "save-subjects")
    page.fill("#pattern", "(")
    assert "cannot be used" in page.inner_text("#subjects-status")
    page.fill("#pattern", r"^S\d_")
    assert "has no group" in page.inner_text("#subjects-status")
    table = "\ufefffile;subject\r\n" + "".join(
        f'"elsewhere/cells/{path.name}";{path.name[:2]}\r\n' for path in paths[:6]
    )
    for other in "89":  # the same names in other folders
        table += "".join(f"other{other}/{path.name};S{other}\r\n" for path in paths)
    (tmp_path / "subjects.csv").write_text(table, encoding="utf-8", newline="")
    page.set_input_files("#table", str(tmp_path / "subjects.csv"))
    wait_for(page, "#subjects-status", "3 images without")
    by_table = rows_of(page, 9, "save-subjects")
    (tmp_path / "wrong.csv").write_text("name,patient\nx,y\n")
    page.set_input_files("#table", str(tmp_path / "wrong.csv"))
    wait_for(page, "#subjects-status", "are needed")
    for found, count in ((by_pattern, 9), (by_table, 6)):
        assert [row["subject"] for row in found] == ["S0", "S1", "S2"]
        for i, row in enumerate(found):
            own = tiny_hybrid().predict_proba(paths[i:count:3]).mean(axis=0)
            got = [float(row[f"p_{label}"]) for label in tiny_hybrid().classes_]
            np.testing.assert_allclose(got, own, atol=1e-5)
            assert row["n_images"] == str(count // 3)
            assert row["class"] == tiny_hybrid().classes_[own.argmax()]


def add_flags(model):
    """Add outputs to a graph: whether an image is bright, and how bright."""
    added = parser.parse_graph(
        """
        flags (uint8[height, width, 3] image) => (bool[1] bright, float[1] brightness)
        {
            values = Cast <to: int = 1> (image)
            flat = Constant <value_ints: ints = [-1]> ()
            row = Reshape (values, flat)
            axes = Constant <value_ints: ints = [0]> ()
            brightness = ReduceMean <keepdims: int = 1> (row, axes)
            limit = Constant <value_floats: floats = [128.0]> ()
            bright = Greater (brightness, limit)
        }
        """
    )
    model.graph.node.extend(added.node)
    model.graph.output.extend(added.output)


@pytest.mark.slow
def test_other_outputs_of_the_graph_are_columns(runtime_files, open_page, tmp_path):
    runtime = read_runtime(runtime_files)
    write_page(tmp_path / "page", edited(add_flags), tiny_hybrid().classes_, "net", runtime)
    for level in (50, 200):
        Image.new("RGB", (40, 40), (level,) * 3).save(tmp_path / f"{level}.png")
    with serve(tmp_path / "page") as server:
        page = open_page(server)
        wait_until_ready(page)
        rows = classify(page, [tmp_path / "200.png", tmp_path / "50.png"])
        assert page.locator("td.flag[data-title^=bright]").all_inner_texts() == [
            "yes",
            "200",
            "no",
            "50.0",
        ]
        page.locator("th.flag button", has_text="brightness").click()
        assert page.locator("td.file").all_inner_texts() == ["50.png", "200.png"]
    assert [(row["bright"], row["brightness"]) for row in rows] == [
        ("true", "200"),
        ("false", "50"),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:images smaller than crop_size")
def test_unfamiliar_images_have_the_reasons_that_the_model_finds(page, tmp_path):
    paths = save_all(tmp_path, [".png"] * 5)
    first = Image.open(paths[0])
    first.filter(ImageFilter.GaussianBlur(4)).save(paths[1])
    ImageEnhance.Brightness(first).enhance(0.1).save(paths[2])
    ImageEnhance.Brightness(first).enhance(3).save(paths[3])
    first.resize((9, 8)).save(paths[4])
    rows = classify(page, paths)
    check_results(rows, paths)
    for row, reason in zip(rows, ("", "blur", "exposure", "exposure", "size"), strict=True):
        assert reason in row["reasons"]
    shown = page.locator("td.flag[data-title=reasons]").all_inner_texts()
    assert shown == [row["reasons"] for row in rows]
    page.select_option("#show", "unfamiliar")
    found = [row["image"] for row in rows if row["familiar"] == "false"]
    assert page.locator("td.file").all_inner_texts() == found
    contrast, _ = find_contrast(page)
    assert contrast >= 4.5


@pytest.mark.slow
def test_names_are_text_and_formulas_are_escaped(page, tmp_path):
    (source,) = save_all(tmp_path, [".png"])
    names = ['=1+1,"x".png', "<img src=x onerror=alert(1)>.png", "cell\u202egnp.exe.png", "-5.png"]
    for name in names:
        shutil.copyfile(source, tmp_path / name)
    rows = classify(page, [tmp_path / name for name in names])
    assert [row["image"] for row in rows] == [f"'{names[0]}", *names[1:3], f"'{names[3]}"]
    shown = page.locator("td.file").all_inner_texts()
    assert shown == [*names[:2], r"cell\u202egnp.exe.png", names[3]]
    assert page.locator("td.file img").count() == 0


@pytest.mark.slow
def test_the_table_is_sorted_filtered_and_used_by_keyboard(page, tmp_path):
    paths = save_all(tmp_path, [".png"] * 7)
    paths.append(tmp_path / "text.png")
    paths[-1].write_text("no image")
    rows = classify(page, [*paths, paths[0]], 8)
    names = page.locator("td.file")
    page.focus("th.file button")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # the focus stays on the button
    assert names.all_inner_texts() == sorted((p.name for p in paths), reverse=True)
    page.locator("th.probability button").first.click()
    values = {row["image"]: row["p_blast"] for row in rows}
    found = [values[name] for name in names.all_inner_texts()]
    assert found == [*sorted(filter(None, found), reverse=True), ""]
    assert page.get_attribute("th.probability", "aria-sort") == "descending"
    page.fill("#find", "s1_")
    assert set(names.all_inner_texts()) == {p.name for p in paths if "S1_" in p.name}
    page.fill("#find", "")
    page.select_option("#show", "failed")
    assert names.all_inner_texts() == ["text.png"]
    page.select_option("#show", "all")
    page.locator("td.picture button").first.press("Enter")
    assert page.locator("dialog").is_visible()
    page.evaluate("document.getElementById('viewer-image').decode()")
    assert page.evaluate("document.getElementById('viewer-image').naturalWidth") == 40
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    page.locator("td.picture button").first.click()
    page.click("dialog button")
    assert not page.locator("dialog").is_visible()
    page.click("#clear")
    assert page.locator("td").count() == 0
    # While images are classified.
    page.set_input_files("#files", list(map(str, paths)))
    page.click("#clear")
    assert page.locator("td").count() == 0
    check_results(classify(page, paths[:2]), paths[:2])


@pytest.mark.slow
def test_rows_that_come_do_not_take_the_focus(page, tmp_path):
    paths = save_all(tmp_path, [".png"] * 12)
    page.set_input_files("#files", str(paths[0]))
    page.locator("td.picture button").focus()
    page.set_input_files("#files", list(map(str, paths[1:])))
    page.locator("#images tbody tr").nth(11).wait_for()
    assert page.evaluate("document.activeElement.parentElement.className") == "picture"


@pytest.mark.slow
def test_page_and_worker_can_send_nothing_to_another_origin(folder, open_page, tmp_path):
    with serve(folder) as server, serve(tmp_path, is_shared=True) as other:
        page = open_page(server)
        wait_until_ready(page)
        send = f"fetch('{other.url}x', {{mode: 'no-cors'}}).then(() => 'sent', () => 'refused')"
        assert page.evaluate(send) == "refused"
        (worker,) = page.workers
        assert worker.evaluate(send) == "refused"
        page.evaluate(f"new Image().src = '{other.url}x'")
        page.evaluate(f"navigator.sendBeacon('{other.url}x')")
        page.wait_for_timeout(200)
        assert other.asked == []


@pytest.mark.slow
def test_a_damaged_model_is_not_run(folder, open_page, tmp_path):
    shutil.copytree(folder, tmp_path / "page")
    content = bytearray((tmp_path / "page" / "model.onnx").read_bytes())
    content[-1] ^= 1
    (tmp_path / "page" / "model.onnx").write_bytes(content)
    with serve(tmp_path / "page") as server:
        page = open_page(server)
        page.wait_for_selector("#status.problem")
        assert "The model cannot be started" in page.inner_text("#status")


@pytest.mark.slow
@pytest.mark.parametrize("changed", [False, True])
def test_files_of_a_cdn_are_checked_by_the_browser(
    changed, runtime_files, open_page, tmp_path, monkeypatch
):
    contents = read_runtime(runtime_files)
    (tmp_path / "cdn").mkdir()
    for name, content in contents.items():
        (tmp_path / "cdn" / name).write_bytes(content + b" " * (changed and name == SCRIPT))
    if not changed:
        assert read_runtime(tmp_path / "cdn") == contents
    with serve(tmp_path / "cdn", is_shared=True) as cdn:
        monkeypatch.setattr(_web, "CDN", cdn.url)
        write_page(tmp_path / "page", tiny_file(), tiny_hybrid().classes_, "net", {})
        with serve(tmp_path / "page") as server:
            page = open_page(server)
            if changed:
                page.wait_for_selector("#status.problem")
                assert "The model cannot be started" in page.inner_text("#status")
                return
            wait_until_ready(page)
            paths = save_all(tmp_path, [".png", ".bmp"])
            check_results(classify(page, paths), paths)
            assert sorted(cdn.asked) == sorted(f"/{name}" for name in contents)


@pytest.mark.slow
def test_the_page_fits_and_can_be_read(page, tmp_path):
    paths = save_all(tmp_path, [".png"] * 3)
    long = tmp_path / f"S0_{'long' * 30}.png"
    shutil.copyfile(paths[0], long)
    text = tmp_path / "S1_text.png"
    text.write_text("no image")
    classify(page, [*paths, long, text])
    page.fill("#pattern", "^(S.)_")
    assert page.locator("#subjects tbody tr").count() == 3
    for width, scheme in itertools.product((1280, 390), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        contrast, n_texts = find_contrast(page)
        assert n_texts > 40
        assert contrast >= 4.5, (width, scheme)
