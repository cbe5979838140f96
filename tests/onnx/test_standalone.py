import contextlib
import csv
import importlib.util
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.exported import cells, tiny_file, tiny_hybrid
from effboost import ImageSequence, export_onnx
from effboost.datasets import list_images
from effboost.exceptions import DroppedRowsWarning, ImageDecodeError
from effboost.onnx._standalone import write_folder

# Finds nothing but what the requirements name.
ALONE = """
import runpy, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
sys.argv = {arguments!r}
sys.path.insert(0, {folder!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""
BLOCKED = ("effboost", "torch", "torchvision", "sklearn", "scipy", "skorch", "xgboost", "onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_onnx(tiny_hybrid(), tmp_path_factory.mktemp("out") / "model", standalone=True)


def predict(folder, *arguments):
    words = [str(folder / "predict.py"), *map(str, arguments)]
    code = ALONE.format(blocked=BLOCKED, arguments=words, folder=str(folder))
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
    )


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def save_all(folder, suffixes):
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i}.{suffix}" for i, suffix in enumerate(suffixes)]
    for path, picture in zip(paths, cells(len(paths), seed=3)[0], strict=True):
        Image.fromarray(picture).save(path)
    return paths


def test_the_folder_contains_all_needed_files(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "Dockerfile",
        "README.md",
        "effboost_parts",
        "model.onnx",
        "predict.py",
        "requirements.txt",
    ]
    assert (folder / "model.onnx").read_bytes() == tiny_file()
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "blast, healthy, other" in text
    assert "$" not in text


def test_requirements_include_the_installed_versions(folder):
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert [re.match(r"\w+", line)[0] for line in lines] == ["numpy", "onnxruntime", "pillow"]
    for line in lines:
        assert re.fullmatch(r"\w+>=[\d.]+,<\d+", line)


def test_files_and_folders_are_classified_without_effboost_and_torch(folder, tmp_path):
    inside = save_all(tmp_path / "cells", ["png", "bmp", "jpg", "tif", "JPEG"])
    (tmp_path / "cells" / "notes.txt").write_text("no image")
    single = save_all(tmp_path, ["bmp"])
    done = predict(folder, (tmp_path / "cells").as_uri(), *single)
    assert (done.returncode, done.stderr) == (0, "")
    rows = rows_of(done.stdout)
    paths = [*inside, *single]
    assert [row["file"] for row in rows] == list(map(str, paths))
    assert [row["label"] for row in rows] == tiny_hybrid().predict(paths).tolist()
    got = [[float(row[f"probability_{c}"]) for c in tiny_hybrid().classes_] for row in rows]
    assert np.abs(np.array(got) - tiny_hybrid().predict_proba(paths)).max() <= 1e-5


def test_a_broken_image_is_reported_and_the_others_are_classified(folder, tmp_path):
    paths = save_all(tmp_path, ["png", "png", "png"])
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    done = predict(folder, *paths, tmp_path / "none.png", "--out", tmp_path / "table.csv")
    assert done.returncode == 1
    broken, missing = done.stderr.splitlines()
    assert broken.startswith(f"predict.py: error: {str(paths[1])!r}: ")
    assert "none.png" in missing
    rows = rows_of((tmp_path / "table.csv").read_text())
    assert [row["file"] for row in rows] == [str(paths[0]), str(paths[2])]


@pytest.fixture
def read_image(folder, monkeypatch):
    """Return the function by which the script reads files."""
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("predict", folder / "predict.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.Decoder.__module__ == "effboost_parts._images.decoding"
    return lambda path: script.read_image(script.Decoder(), str(path))


def odd_pictures():
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    alpha = Image.fromarray(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    palette = colour.quantize(16)
    yield "upright.jpg", colour, {"exif": turned}
    yield "alpha.png", alpha, {}
    yield "sixteen.png", Image.fromarray(rng.integers(0, 65536, (20, 30), dtype=np.uint16)), {}
    yield "sixteen.tif", Image.fromarray(rng.integers(0, 65536, (20, 30), dtype=np.uint16)), {}
    # 0 is white.
    deep = Image.fromarray(rng.integers(0, 65536, (20, 30), dtype=np.uint16))
    yield "inverted.tif", deep, {"tiffinfo": {262: 0}}
    yield "float.tif", Image.fromarray(rng.random((20, 30), dtype=np.float32)), {}
    yield "grey.png", colour.convert("L"), {}
    yield "grey_alpha.png", alpha.convert("LA"), {}
    yield "one_bit.png", colour.convert("1"), {}
    yield "palette.png", palette, {}
    yield "transparent_palette.png", palette, {"transparency": 3}
    yield "cmyk.jpg", colour.convert("CMYK"), {}
    yield "pages.tif", colour, {"save_all": True, "append_images": [colour.transpose(0)]}


@pytest.mark.filterwarnings("ignore:.*has several pages")
@pytest.mark.parametrize("number", range(13))
def test_unusual_images_are_read_as_by_effboost(number, read_image, tmp_path):
    name, picture, options = list(odd_pictures())[number]
    picture.save(tmp_path / name, **options)
    expected = ImageSequence([tmp_path / name])[0]
    np.testing.assert_array_equal(read_image(tmp_path / name), expected)


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (7, 30)),
        Image.fromarray(np.full((20, 20), 1.5, dtype=np.float32)),
        Image.fromarray(np.full((20, 20), np.nan, dtype=np.float32)),
        Image.fromarray(np.full((20, 20), -1, dtype=np.int32)),
    ],
    ids=["small", "bright", "nan", "negative"],
)
def test_images_that_effboost_refuses_are_refused(picture, read_image, tmp_path):
    picture.save(tmp_path / "odd.tif")
    with pytest.raises(ImageDecodeError) as error:
        ImageSequence([tmp_path / "odd.tif"])[0]
    with pytest.raises(Exception, match=f"^{re.escape(error.value.reason)}$"):
        read_image(tmp_path / "odd.tif")


def test_files_are_listed_and_written_as_by_effboost(folder, tmp_path):
    """Suffixes, links, hidden files, and names with line ends or bytes that are not UTF-8."""
    cells_folder = tmp_path / "cells"
    paths = save_all(cells_folder, ["png", "jpeg", "jpg"])
    (elsewhere,) = save_all(tmp_path / "elsewhere", ["bmp"])
    (cells_folder / "link").symlink_to(elsewhere.parent, target_is_directory=True)
    (cells_folder / "loop").symlink_to(cells_folder, target_is_directory=True)
    for name in ("a\rb.png", 'c\n"d", e.PNG', "f.jfif", ".hidden.png", os.fsdecode(b"g\xff.png")):
        shutil.copyfile(paths[0], cells_folder / name)
    (cells_folder / "slide.svs").write_bytes(b"x")
    done = predict(folder, cells_folder, paths[0], "--out", tmp_path / "table.csv")
    assert (done.returncode, done.stdout) == (0, "")
    assert "warning: 1 files" in done.stderr
    with (tmp_path / "table.csv").open(newline="", errors="surrogateescape") as file:
        found = [row["file"] for row in csv.DictReader(file)]
    with pytest.warns(DroppedRowsWarning):
        assert found == list_images(cells_folder)
    assert len(found) == 8


def test_dark_images_are_reported_and_the_white_level_can_be_set(folder, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (40, 40), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "dark.png")
    done = predict(folder, tmp_path / "dark.png")
    assert "set --white-level 4095" in done.stderr
    done = predict(folder, tmp_path / "dark.png", "--white-level", 4095)
    assert (done.returncode, done.stderr) == (0, "")
    expected = tiny_hybrid().predict_proba(ImageSequence([tmp_path / "dark.png"], white_level=4095))
    assert float(rows_of(done.stdout)[0]["probability_blast"]) == pytest.approx(
        expected[0, 0], abs=2e-6
    )


def test_no_images_and_hostile_models_are_one_error(folder, tmp_path):
    done = predict(folder, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "there are no images" in done.stderr
    os.mkfifo(tmp_path / "pipe.onnx")
    done = predict(folder, tmp_path, "--model", tmp_path / "pipe.onnx")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is not a regular file" in done.stderr


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        export_onnx(tiny_hybrid(), tmp_path, standalone=True)
    with pytest.raises(FileExistsError):
        export_onnx(tiny_hybrid(), tmp_path / "mine.txt", standalone=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("exists", [False, True])
def test_folders_are_written_atomically(exists, tmp_path, monkeypatch):
    target = tmp_path / "model"
    if exists:
        target.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_folder(target, b"graph", np.array(["a", "b"]), "net")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    write_folder(target, b"graph", np.array(["a", "b"]), "net")
    assert (target / "model.onnx").read_bytes() == b"graph"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def interrupt(*_):
    raise KeyboardInterrupt


def test_hostile_labels_are_text_in_the_readme(tmp_path):
    classes = np.array(["<script>", "$path `x`"])
    made = write_folder(tmp_path / "model", b"graph", classes, "net")
    text = (made / "README.md").read_text(encoding="utf-8")
    assert r"\<script\>, \$path \`x\`" in text


def test_the_container_has_all_files_and_no_rights(folder):
    lines = (folder / "Dockerfile").read_text(encoding="utf-8").splitlines()
    steps = [line.split(" ", 1) for line in lines if line[:1].isupper()]
    copied = [name for step, rest in steps if step == "COPY" for name in rest.split()[:-1]]
    assert sorted(copied) == ["effboost_parts", "model.onnx", "predict.py", "requirements.txt"]
    assert all((folder / name).exists() for name in copied)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert steps[0] == ["FROM", f"python:{version}-slim"]
    assert steps[-2:] == [["USER", "10001"], ["ENTRYPOINT", '["python", "/app/predict.py"]']]
    assert '"$PWD/cells:/cells:ro"' in "\n".join(lines)


def test_a_table_is_not_overwritten_without_force(folder, tmp_path):
    save_all(tmp_path / "cells", ["png"])
    out = tmp_path / "results.csv"
    out.write_text("mine")
    words = (tmp_path / "cells", "--out", out)
    done = predict(folder, *words)
    assert done.returncode == 1
    assert f"{str(out)!r} exists: name another --out, or give --force" in done.stderr
    assert out.read_text() == "mine"
    assert predict(folder, *words, "--force").returncode == 0
    assert len(rows_of(out.read_text())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name images and folders, or one folder by --watch"),
        (["cells", "--watch", "cells"], "name images and folders, or one folder by --watch"),
        (["--watch", "cells"], "--watch needs --out"),
        *(
            (["--watch", ".", "--out", "t.csv", "--interval", value], "is not a number of seconds")
            for value in ("-1", "nan", "inf")
        ),
    ],
)
def test_wrong_options_are_errors(arguments, message, folder):
    done = predict(folder, *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_folder_that_is_missing_leaves_no_table(folder, tmp_path):
    done = predict(folder, "--watch", tmp_path / "none", "--out", tmp_path / "t.csv")
    assert done.returncode == 1
    assert "none" in done.stderr
    assert not list(tmp_path.iterdir())


def wait_for_rows(path, n):
    for _ in range(600):
        rows = rows_of(path.read_text()) if path.exists() else []
        if len(rows) >= n and rows[-1]["label"]:
            return rows
        time.sleep(0.05)
    raise AssertionError(f"no {n} rows in {path.read_text()!r}")


@contextlib.contextmanager
def watching(folder, place, out):
    words = [folder / "predict.py", "--watch", place, "--out", out, "--interval", "0.1"]
    process = subprocess.Popen(
        [sys.executable, *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_images_that_arrive_are_classified_and_a_restart_goes_on(folder, tmp_path):
    place, out = tmp_path / "arriving", tmp_path / "results.csv"
    first = save_all(place, ["png", "bmp"])
    with watching(folder, place, out) as process:
        wait_for_rows(out, 2)
        content = first[1].read_bytes()
        (slow := place / "slow.bmp").write_bytes(b"")
        (broken := place / "broken.png").write_bytes(b"no image")
        with slow.open("ab") as stream:
            for start in range(0, len(content), 1000):
                stream.write(content[start : start + 1000])
                stream.flush()
                time.sleep(0.05)
        wait_for_rows(out, 3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert f"{str(broken)!r}: " in errors
    text = out.read_text()
    out.write_text(text + f"{place}/unfinis")
    (place / "later.png").write_bytes(first[0].read_bytes())
    with watching(folder, place, out) as process:
        rows = wait_for_rows(out, 4)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.read_text().startswith(text)
    paths = [*first, slow, place / "later.png"]
    assert [row["file"] for row in rows] == list(map(str, paths))
    assert [row["label"] for row in rows] == tiny_hybrid().predict(paths).tolist()


def test_the_error_of_a_full_disk_names_the_folder(tmp_path):
    """A file that may not grow any further stands for a disk that is full."""
    code = (
        "import resource, sys\n"
        "import numpy as np\n"
        "from effboost.onnx._standalone import write_folder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_folder(sys.argv[1], bytes(5000), np.array(['a', 'b']), 'net')\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    target = tmp_path / "model"
    command = [sys.executable, "-c", code, str(target)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout == f"[Errno 27] File too large: {str(target)!r}\n", result.stderr
    assert list(tmp_path.iterdir()) == []
