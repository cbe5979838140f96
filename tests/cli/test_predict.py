import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import dask
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.svm import SVC

import effboost
from effboost import (
    HybridClassifier,
    ImageSequence,
    SiteAdaptedClassifier,
    iter_predictions,
    presets,
)
from effboost.cli import main
from effboost.cli._cluster import open_client
from effboost.cli._predict import _check_same_model
from effboost.cli._rows import Recorded, make_writer
from effboost.datasets import list_images, make_blood_cells


def predict(model_file, *arguments):
    return main(["predict", str(model_file), *map(str, arguments), "--quiet"])


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_predictions_match_the_model(model_file, fitted, new_cells, capsys):
    assert predict(model_file, new_cells) == 0
    printed = capsys.readouterr()
    rows = read(printed.out)
    paths = list_images(new_cells)
    assert [row["image"] for row in rows] == paths
    flags = ["familiarity", "familiar", "reasons"]
    assert list(rows[0]) == ["image", "class", "p_ALL", "p_HEM", *flags, "error"]
    proba = fitted.predict_proba(paths)
    np.testing.assert_allclose(
        [[float(row["p_ALL"]), float(row["p_HEM"])] for row in rows], proba, atol=1e-6
    )
    assert [row["class"] for row in rows] == fitted.predict(paths).tolist()
    assert printed.err == ""


def test_models_that_were_fitted_on_rows_read_files_by_every_route(new_cells, tmp_path, capsys):
    cells = make_blood_cells(n_subjects=4, images_per_subject=4, image_size=40, random_state=0)
    rows = pd.DataFrame(cells.images.reshape(len(cells.images), -1) / 255).add_prefix("p")
    clf = presets.frozen("shufflenet_v2_x0_5", weights=None, image_size=32, random_state=0)
    clf.set_params(featurizer__image_shape=(40, 40, 3), classifier__n_estimators=3)
    clf.fit(rows, cells.target)
    paths = list_images(new_cells)
    expected = clf.predict_proba(ImageSequence(paths))
    files = [effboost.save(clf, tmp_path / "rows.effboost")]
    files.append(effboost.export_onnx(clf, tmp_path / "rows.onnx"))
    for file in files:
        assert predict(file, new_cells) == 0
        found = [[float(r["p_ALL"]), float(r["p_HEM"])] for r in read(capsys.readouterr().out)]
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_json_and_tables_equal_csv(model_file, new_cells, capsys):
    predict(model_file, new_cells)
    rows = read(capsys.readouterr().out)
    assert predict(model_file, new_cells, "--format", "json") == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [o["image"] for o in objects] == [row["image"] for row in rows]
    assert [o["probabilities"]["ALL"] for o in objects] == [float(row["p_ALL"]) for row in rows]
    assert {o["error"] for o in objects} == {None}
    assert predict(model_file, new_cells, "--format", "table") == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["image", "class", "p_ALL", "p_HEM", "unfamiliar"]
    assert [line.split()[1] for line in table[1:]] == [row["class"] for row in rows]


def test_broken_image_has_a_row_and_the_others_are_predicted(model_file, new_cells, capsys):
    paths = list_images(new_cells)
    os.truncate(paths[4], 100)
    os.truncate(paths[11], 0)
    assert predict(model_file, new_cells, "gone.png") == 1
    printed = capsys.readouterr()
    rows = {row["image"]: row for row in read(printed.out)}
    assert len(rows) == 21
    assert "truncated" in rows[paths[4]]["error"]
    assert "0 bytes" in rows[paths[11]]["error"]
    assert "no such file" in rows["gone.png"]["error"]
    assert rows["gone.png"]["class"] == rows["gone.png"]["p_ALL"] == ""
    assert sum(row["error"] == "" for row in rows.values()) == 18
    assert printed.err == "effboost: 3 images could not be read, see their rows\n"


def test_files_folders_and_stdin_are_combined_without_duplicates(
    model_file, new_cells, capsys, monkeypatch
):
    first, second, *_ = list_images(new_cells)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{second}\n\n{first}\r\n"))
    assert predict(model_file, first, "-", new_cells / "slide1") == 0
    found = [row["image"] for row in read(capsys.readouterr().out)]
    assert found == [first, second, *list_images(new_cells / "slide1")]


def test_hostile_and_non_utf8_names_are_kept(model_file, new_cells, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    picture = next(iter(new_cells.rglob("*.png"))).read_bytes()
    names = [b'a,"b"\nc.png', b"a\rb.png", b"c\r\nd.png", b"\xff\xfe.png", b"plain.png"]
    names.append("\u202egnp.exe.png".encode())
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(picture)
    for kind in ("csv", "json"):
        out = tmp_path / f"out.{kind}"
        assert predict(model_file, folder, "--format", kind, "--out", out) == 0
        assert predict(model_file, folder, "--format", kind, "--out", out, "--resume") == 0
        with out.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            lines = list(file) if kind == "json" else list(csv.DictReader(file))
        rows = map(json.loads, lines) if kind == "json" else lines
        assert sorted(os.fsencode(row["image"].rpartition("/")[2]) for row in rows) == sorted(names)


def test_escape_formulas_option_can_be_resumed(model_file, new_cells, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    picture = next(iter(new_cells.rglob("*.png"))).read_bytes()
    names = ["=cmd|'calc'!A0.png", "@x.png", "'quoted.png", "plain.png"]
    for name in names:
        (folder / name).write_bytes(picture)
    out = tmp_path / "out.csv"
    arguments = ["predict", str(model_file), *names, "--quiet", "--out", str(out)]
    with contextlib.chdir(folder):
        assert main([*arguments, "--escape-formulas"]) == 0
        content = out.read_text()
        assert [row["image"] for row in read(content)] == [f"'{name}" for name in names[:3]] + [
            "plain.png"
        ]
        assert main([*arguments, "--escape-formulas", "--resume"]) == 0
    assert out.read_text() == content


def test_white_level_option_scales_pixels(model_file, tmp_path, capsys):
    plain = np.random.default_rng(0).integers(0, 256, (4, 40, 40), dtype=np.uint8)
    deep = np.rint(plain * (4095 / 255)).astype(np.uint16)
    for kind, pictures in (("plain", plain), ("deep", deep)):
        (tmp_path / kind).mkdir()
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / kind / f"{i}.png")
    assert predict(model_file, tmp_path / "plain") == 0
    expected = capsys.readouterr().out.replace("plain", "deep")
    assert predict(model_file, tmp_path / "deep", "--white-level", 4095) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (expected, "")
    assert predict(model_file, tmp_path / "deep") == 0
    printed = capsys.readouterr()
    assert printed.out != expected
    assert "set --white-level 4095 (an option" in printed.err


@pytest.mark.slow
def test_names_on_stdin_may_contain_carriage_returns(model_file, new_cells, tmp_path):
    picture = next(iter(new_cells.rglob("*.png"))).read_bytes()
    (tmp_path / "a\rb.png").write_bytes(picture)
    (tmp_path / "c.png").write_bytes(picture)
    command = [sys.executable, "-m", "effboost", "predict", str(model_file), "-", "--quiet"]
    names = b"a\rb.png\nc.png\r\n"
    result = subprocess.run(command, input=names, capture_output=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout.decode(), newline="")))
    assert [row["image"] for row in rows] == ["a\rb.png", "c.png"]


def test_classes_with_equal_names_raise():
    model = SimpleNamespace(classes_=np.array(["1", 1], dtype=object), predict_proba=None)
    with pytest.raises(ValueError, match="several classes that are written as '1'"):
        make_writer("csv", model, [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_error_names_the_file(model_file, new_cells, capsys):
    assert predict(model_file, new_cells, "--out", "/dev/full", "--force") == 1
    assert capsys.readouterr().err == (
        "effboost: error: [Errno 28] No space left on device: '/dev/full'\n"
    )


# --- an output that is there already -------------------------------------------------------


def test_output_is_not_overwritten_without_force(model_file, new_cells, tmp_path, capsys):
    out = tmp_path / "p.csv"
    out.write_text("mine")
    assert predict(model_file, new_cells, "--out", out) == 1
    assert "exists: name another file, or give --force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert predict(model_file, new_cells, "--out", out, "--force") == 0
    for name in ("p.json", "p.xlsx"):
        assert predict(model_file, new_cells, "--out", tmp_path / name) == 1
        assert f"{name}' would be CSV: name it .csv" in capsys.readouterr().err
    assert len(read(out.read_text())) == 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_resume_continues_after_a_truncated_row(model_file, new_cells, tmp_path, kind):
    paths = list_images(new_cells)
    os.truncate(paths[2], 50)
    whole = tmp_path / "whole"
    assert predict(model_file, new_cells, "--out", whole, "--format", kind) == 1
    content = whole.read_bytes()
    part = tmp_path / "part"
    rng = np.random.default_rng(0)
    for size in (0, 3, len(content) - 1, len(content), *rng.integers(0, len(content), 6)):
        part.write_bytes(content[:size])
        assert predict(model_file, new_cells, "--out", part, "--format", kind, "--resume") == 1
        assert part.read_bytes() == content


def test_resume_refuses_pipes_and_rows_without_end(onnx_file, new_cells, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.csv")
    assert predict(onnx_file, new_cells, "--out", tmp_path / "pipe.csv", "--resume") == 1
    assert "is not a regular file" in capsys.readouterr().err
    with (tmp_path / "sparse.csv").open("wb") as file:
        file.truncate(10 * 2**30)
    assert predict(onnx_file, new_cells, "--out", tmp_path / "sparse.csv", "--resume") == 1
    assert "one of its rows has more than 1,048,576 bytes" in capsys.readouterr().err


def test_resume_computes_only_missing_images(model_file, new_cells, tmp_path, capsys):
    out = tmp_path / "p.csv"
    assert predict(model_file, new_cells / "slide0", "--out", out, "--resume") == 0
    before = out.read_bytes()
    arguments = ["predict", str(model_file), str(new_cells), "--out", str(out), "--resume"]
    assert main(arguments) == 0
    assert out.read_bytes().startswith(before)
    assert len(read(out.read_text())) == 20
    assert "10/20" in capsys.readouterr().err  # where its progress began


@pytest.mark.slow
def test_resume_raises_for_rows_of_another_model(model_file, fitted, new_cells, tmp_path, capsys):
    out = tmp_path / "p.csv"
    assert predict(model_file, new_cells / "slide0", "--out", out) == 0
    content = out.read_bytes()
    other = effboost.save(
        effboost.load(model_file)
        .set_params(classifier__n_estimators=1)
        .fit(list_images(new_cells), ["ALL", "HEM"] * 10),
        tmp_path / "other.effboost",
    )
    assert predict(other, new_cells, "--out", out, "--resume") == 1
    assert "it was written by another model" in capsys.readouterr().err
    assert out.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        ("image,class,p_x,p_y,error\n", "csv", "row 1"),
        ("image,class,p_ALL,p_HEM,error\na.png,ALL,1\n", "csv", "it has 3 values, not 5"),
        ("image,class,p_ALL,p_HEM,error\na.png,ALL,1,maybe,\n", "csv", "row 2"),
        ('{"image": "a.png"}\n', "json", "it is not an object"),
        ("[1, 2]\n", "json", "it is not an object"),
        ("no json\n", "json", "row 1"),
        (
            '{"image": "a", "class": "x", "probabilities": {"x": 1.0}, "error": null}\n',
            "json",
            "its classes are ['x'], those of this model ['ALL', 'HEM']",
        ),
    ],
)
def test_resume_raises_for_other_files(
    model_file, new_cells, tmp_path, capsys, content, format, message
):
    out = tmp_path / "p"
    out.write_text(content)
    assert predict(model_file, new_cells, "--out", out, "--resume", "--format", format) == 1
    err = capsys.readouterr().err
    assert message in err
    assert "or --force instead of --resume" in err
    assert out.read_text() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume needs --out"),
        (["--resume", "--out", "t", "--format", "table"], "not tables"),
        (["--out", "no/such/folder/p.csv"], "does not exist"),
        (["--out", "."], "is a folder"),
        (["--rejects", "r.csv"], "--rejects needs --on-error skip"),
        (["--on-error", "skip"], "--on-error skip needs --rejects FILE"),
        (["--on-error", "skip", "--rejects", "r", "--out", "r"], "name the same file"),
    ],
)
def test_invalid_outputs_raise_before_the_model_is_read(
    new_cells, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert predict("no.effboost", new_cells, *arguments) == 1
    assert message in capsys.readouterr().err


def test_invalid_model_and_folder_without_images_raise(model_file, tmp_path, capsys):
    (tmp_path / "a.effboost").write_text("no model")
    assert predict(tmp_path / "a.effboost", "a.png") == 1
    assert "is not a model of effboost" in capsys.readouterr().err
    assert predict(model_file, tmp_path) == 1
    assert "there are no images" in capsys.readouterr().err


def test_skip_writes_the_reject_table_and_predicts_the_rest(
    model_file, new_cells, tmp_path, capsys
):
    paths = list_images(new_cells)
    os.truncate(paths[4], 100)
    os.truncate(paths[11], 0)
    out, rejects = tmp_path / "p.csv", tmp_path / "rejects.csv"
    skip = ("--on-error", "skip", "--rejects", rejects)
    assert predict(model_file, new_cells, "gone.png", "--out", out, *skip, "--block-size", 3) == 0
    assert capsys.readouterr().err == (
        f"effboost: 3 of 21 images could not be read, see {str(rejects)!r}\n"
    )
    good = [path for i, path in enumerate(paths) if i not in (4, 11)]
    rows = read(out.read_text())
    assert [row["image"] for row in rows] == good
    assert {row["error"] for row in rows} == {""}
    table = read(rejects.read_text())
    assert [(row["path"], row["position"]) for row in table] == [
        (paths[4], "4"),
        (paths[11], "11"),
        ("gone.png", "20"),
    ]
    assert "0 bytes" in table[1]["reason"]
    # A file that exists is neither lost nor mixed up.
    assert predict(model_file, new_cells, "--out", out, "--force", *skip[:2]) == 1
    assert "--on-error skip needs --rejects" in capsys.readouterr().err
    assert predict(model_file, new_cells, *skip) == 1
    assert "rejects.csv' exists: name another file" in capsys.readouterr().err


def test_resume_continues_the_reject_table(model_file, new_cells, tmp_path, capsys):
    odd = new_cells / "slide0" / 'a,"b"\nc.png'
    odd.write_bytes(b"no picture")
    for path in list_images(new_cells)[5:8]:
        os.truncate(path, 0)
    skip = ("--on-error", "skip", "--block-size", 4)
    whole = {name: tmp_path / f"whole_{name}" for name in ("out", "rejects")}
    part = {name: tmp_path / f"part_{name}" for name in ("out", "rejects")}
    files = ("--out", whole["out"], "--rejects", whole["rejects"])
    assert predict(model_file, new_cells, *skip, *files) == 0
    n_rows, n_rejects = (len(read(whole[name].read_text())) for name in ("out", "rejects"))
    assert (n_rows, n_rejects) == (17, 4)
    # What a kill leaves: rejects are written before the rows of their block.
    for out_size, rejects_size in ((0, 0), (400, 130), (0, 1 << 20), (1 << 20, 1 << 20)):
        for name, size in (("out", out_size), ("rejects", rejects_size)):
            part[name].write_bytes(whole[name].read_bytes()[:size])
        files = ("--out", part["out"], "--rejects", part["rejects"], "--resume")
        assert predict(model_file, new_cells, *skip, *files) == 0
        for name in ("out", "rejects"):
            found, expected = (read(place[name].read_text()) for place in (part, whole))
            assert sorted(map(str, found)) == sorted(map(str, expected))
    part["rejects"].write_text("mine\n")
    assert predict(model_file, new_cells, *skip, *files) == 1
    assert "its row 1 is not one of path, position" in capsys.readouterr().err
    assert part["rejects"].read_text() == "mine\n"


def test_raise_stops_at_the_first_broken_image(model_file, new_cells, tmp_path, capsys):
    paths = list_images(new_cells)
    os.truncate(paths[7], 100)
    out = tmp_path / "p.csv"
    assert predict(model_file, new_cells, "--out", out, "--on-error", "raise") == 1
    err = capsys.readouterr().err
    assert f"effboost: error: image at position 7, {paths[7]!r}: is damaged" in err
    assert [row["image"] for row in read(out.read_text())] == paths[:7]


# --- in other processes ---------------------------------------------------------------------


def start(*arguments):
    command = [sys.executable, "-m", "effboost", "predict", *map(str, arguments), "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(out, size, process):
    while process.poll() is None and not (out.exists() and out.stat().st_size > size):
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_run_can_be_resumed(onnx_file, many_cells, tmp_path):
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    assert predict(onnx_file, many_cells, "--out", whole) == 0
    for size in (0, 60, 4000):
        process = start(onnx_file, many_cells, "--out", out, "--resume", "--block-size", "4")
        wait_for(out, size, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was done before it could be killed"
    assert predict(onnx_file, many_cells, "--out", out, "--resume") == 0
    assert read(out.read_text()) == read(whole.read_text())


def test_ctrl_c_keeps_complete_rows_and_exits_with_130(onnx_file, many_cells, tmp_path):
    out = tmp_path / "out.csv"
    process = start(onnx_file, many_cells, "--out", out, "--block-size", "4")
    wait_for(out, 60, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"effboost: interrupted\n")
    rows = read(out.read_text())
    assert 0 < len(rows) < 300
    assert all(len(row) == 8 and row["class"] for row in rows)


def test_rows_are_streamed_and_closed_pipe_exits_with_141(onnx_file, many_cells):
    process = start(onnx_file, many_cells, "--block-size", "4")
    first = [process.stdout.readline() for _ in range(3)]
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert err == b""
    assert first[0].startswith(b"image,class")


@pytest.mark.slow
def test_onnx_model_predicts_without_torch(onnx_file, fitted, new_cells):
    code = (
        "import sys; from effboost.cli import main\n"
        f"main(['predict', {str(onnx_file)!r}, {str(new_cells)!r}, '--quiet'])\n"
        "print([m for m in ('torch', 'xgboost', 'skorch') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    text, _, loaded = result.stdout.rpartition("\n")[0].rpartition("\n")
    assert loaded == "[]", result.stderr
    rows = read(text)
    shares = [[float(row["p_ALL"]), float(row["p_HEM"])] for row in rows]
    np.testing.assert_allclose(shares, fitted.predict_proba(list_images(new_cells)), atol=1e-4)


@pytest.mark.filterwarnings("ignore:The `probability` parameter")
def test_the_class_is_that_of_the_models_own_predict(new_cells, tmp_path, capsys):
    """The probabilities of a support vector machine come from another model than its decision."""
    cells = make_blood_cells(n_subjects=6, images_per_subject=5, image_size=40, random_state=0)
    featurizer = presets.frozen(
        "shufflenet_v2_x0_5", weights=None, image_size=32, runtime="torch", random_state=0
    ).featurizer
    noise = np.random.default_rng(0).permutation(cells.target)
    clf = HybridClassifier(featurizer, SVC(C=0.1, probability=True), random_state=0)
    clf.fit(cells.images, noise)
    paths = list_images(new_cells)
    probable = clf.classes_[clf.predict_proba(paths).argmax(axis=1)]
    assert (probable != clf.predict(paths)).any()
    assert predict(effboost.save(clf, tmp_path / "svm.effboost"), new_cells) == 0
    rows = read(capsys.readouterr().out)
    assert [row["class"] for row in rows] == clf.predict(paths).tolist()


def test_resume_refuses_rows_of_another_threshold(fitted, new_cells, tmp_path):
    """Its probabilities are the same, and its decisions are not."""
    paths = list_images(new_cells)
    models = [
        FixedThresholdClassifier(FrozenEstimator(fitted), threshold=t, pos_label="ALL")
        for t in (0.001, 0.999)
    ]
    for model in models:
        model.fit(paths, ["ALL", "HEM"] * 10)
    (row,) = iter_predictions(models[0], paths[:1])
    shares = [round(float(p), 6) for p in row.probabilities]
    recorded = Recorded(samples=[(row.image, (row.label, shares))])
    _check_same_model(models[0], recorded, tmp_path / "p.csv")
    with pytest.raises(ValueError, match="it was written by another model"):
        _check_same_model(models[1], recorded, tmp_path / "p.csv")


def test_a_model_that_adapts_to_a_call_is_not_continued(fitted, new_cells, tmp_path, capsys):
    paths = list_images(new_cells)
    head = SiteAdaptedClassifier(LogisticRegression())
    clf = HybridClassifier(fitted.featurizer, head).fit(paths, ["ALL", "HEM"] * 10)
    model = effboost.save(clf, tmp_path / "adapted.effboost")
    out = tmp_path / "p.csv"
    assert predict(model, new_cells, "--block-size", "3", "--out", out) == 0
    rows = read(out.read_text())
    expected = clf.predict_proba(paths)[:, 0]
    np.testing.assert_allclose([float(row["p_ALL"]) for row in rows], expected, atol=1e-6)
    assert predict(model, new_cells, "--out", out, "--resume") == 1
    assert "adapts to all images of a call: write them anew with --force" in capsys.readouterr().err


@pytest.mark.slow
def test_workers_of_dask_write_the_same_rows(model_file, new_cells, tmp_path):
    """In a process of its own, since worker processes import the main module."""
    (new_cells / "slide0" / "damaged.png").write_bytes(b"no image")
    assert predict(model_file, new_cells, "--out", tmp_path / "here.csv") == 1
    command = [sys.executable, "-m", "effboost", "predict", str(model_file), str(new_cells)]
    command += ["--out", str(tmp_path / "there.csv"), "--block-size", "4", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "1 images could not be read" in done.stderr
    assert (tmp_path / "there.csv").read_text() == (tmp_path / "here.csv").read_text()


@pytest.mark.slow
def test_a_lost_worker_starts_again_and_is_given_time():
    with open_client(Namespace(scheduler=None, workers=1)) as client:
        # Dask reads it when it looks for the worker.
        assert dask.config.get("distributed.deploy.lost-worker-timeout") == "10 minutes"
        ((address, pid),) = client.run(os.getpid).items()
        os.kill(pid, signal.SIGKILL)
        while address in client.scheduler_info()["workers"]:
            time.sleep(0.01)
        assert client.submit(os.getpid).result(timeout=60) != pid
    assert dask.config.get("distributed.deploy.lost-worker-timeout") != "10 minutes"


@pytest.mark.slow
def test_a_running_cluster_continues_a_file(model_file, new_cells, tmp_path, capsys):
    from distributed import LocalCluster

    assert predict(model_file, new_cells, "--out", tmp_path / "here.csv") == 0
    whole = (tmp_path / "here.csv").read_text()
    cut = tmp_path / "there.csv"
    cut.write_text("".join(whole.splitlines(keepends=True)[:8]))
    settings = {"n_workers": 1, "processes": False, "protocol": "tcp", "host": "127.0.0.1"}
    with LocalCluster(**settings, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        assert predict(model_file, new_cells, "--out", cut, "--resume", "--scheduler", address) == 0
    assert cut.read_text() == whole
    capsys.readouterr()
    assert predict(model_file, new_cells, "--scheduler", "tcp://127.0.0.1:9") == 1
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:9'" in capsys.readouterr().err


def test_unfamiliar_images_are_flagged_in_all_formats(
    model_file, onnx_file, fitted, new_cells, capsys
):
    odd = new_cells / "odd.png"
    Image.new("RGB", (300, 300), (0, 250, 0)).save(odd)
    (new_cells / "broken.png").write_bytes(b"")
    paths = [path for path in list_images(new_cells) if not path.endswith("broken.png")]
    table = fitted.check_familiarity(paths)
    for file in (model_file, onnx_file):
        assert predict(file, new_cells) == 1
        rows = {row["image"]: row for row in read(capsys.readouterr().out)}
        broken = rows.pop(str(new_cells / "broken.png"))
        assert (broken["familiarity"], broken["familiar"], broken["reasons"]) == ("", "", "")
        numbers = [float(rows[path]["familiarity"]) for path in paths]
        np.testing.assert_allclose(numbers, table.p_values, atol=1e-4)
        found = [rows[path]["familiar"] for path in paths]
        assert found == [str(familiar).lower() for familiar in table.familiar.tolist()]
        assert [rows[path]["reasons"] for path in paths] == list(map(" ".join, table.reasons))
    assert {"size", "exposure"} <= set(rows[str(odd)]["reasons"].split())
    assert predict(model_file, odd, "--format", "json") == 0
    row = json.loads(capsys.readouterr().out)
    assert row["familiar"] is False
    assert "size" in row["reasons"]
    assert predict(model_file, odd, "--format", "table") == 0
    assert "size" in capsys.readouterr().out


def test_no_flags_leaves_the_columns_out(model_file, new_cells, capsys):
    assert predict(model_file, new_cells, "--no-flags") == 0
    assert list(read(capsys.readouterr().out)[0]) == ["image", "class", "p_ALL", "p_HEM", "error"]
    assert predict(model_file, new_cells, "--no-flags", "--format", "json") == 0
    assert "familiar" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("flags", [True, False])
def test_a_continued_file_keeps_its_columns(kind, flags, model_file, new_cells, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    options = ["--format", kind, *([] if flags else ["--no-flags"])]
    assert predict(model_file, new_cells, "--out", whole, *options) == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[:8]))
    # Without the option: what is in the file decides.
    assert predict(model_file, new_cells, "--out", part, "--resume", "--format", kind) == 0
    assert part.read_bytes() == whole.read_bytes()
