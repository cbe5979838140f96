import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils import Bunch

from effboost.backbones import build_backbone, get_backbone_spec
from effboost.cli import main
from effboost.cli._options import find_sites


@pytest.fixture
def folder(paths, three_classes, subjects, tmp_path):
    rows = [("file", "kind", "patient"), *zip(paths, three_classes, subjects, strict=True)]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path


@pytest.fixture
def weights(tmp_path_factory):
    """A small real network's weights, as a file."""
    file = tmp_path_factory.mktemp("weights") / "shufflenet.pth"
    spec = get_backbone_spec("shufflenet_v2_x0_5")
    torch.save(build_backbone(spec, None, seed=0).state_dict(), file)
    return file


def run(folder, weights, *more):
    usual = f"--target kind --group patient --backbone shufflenet_v2_x0_5 --weights {weights}"
    return main(["evaluate", str(folder), "--frozen", "--folds", "2", *usual.split(), *more])


@pytest.mark.slow
def test_evaluate_prints_a_table_and_writes_json_csv_and_png(folder, weights, tmp_path, capsys):
    out = tmp_path / "new" / "results"
    assert run(folder, weights, "--out", str(out)) == 0
    printed = capsys.readouterr()
    assert "24 images of 12 subjects, 2 folds" in printed.out
    assert "24/24" not in printed.out  # progress goes to stderr
    data = json.loads((out / "report.json").read_text())
    assert data["n_subjects"] == 12
    assert f"accuracy             {data['metrics']['accuracy']['value']:.3f}" in printed.out
    assert (out / "report_confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    with (out / "report_predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    right = sum(row["true"] == row["predicted"] for row in rows) / 24
    assert right == pytest.approx(data["metrics"]["accuracy"]["value"])


@pytest.mark.slow
def test_training_reports_the_network_and_learning_curves(folder, tmp_path, capsys):
    usual = "--target kind --group patient --backbone resnet18 --weights none --quiet --folds 2"
    sizes = "--epochs 1 --image-size 32 --crop-size none --trainable head"
    out = tmp_path / "results"
    arguments = [*usual.split(), *sizes.split(), "--out", str(out)]
    assert main(["evaluate", str(folder), *arguments]) == 0
    assert "CNN alone" in capsys.readouterr().out
    data = json.loads((out / "report.json").read_text())
    assert [len(epochs) for epochs in data["history"]] == [1, 1]
    assert (out / "report_learning_curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--epochs", "0"), ("--image-size", "large"), ("--trainable", "some"), ("--crop-size", "-1")],
)
def test_option_that_is_not_a_number_raises(folder, weights, capsys, option, value):
    with pytest.raises(SystemExit) as stop:
        run(folder, weights, option, value)
    assert stop.value.code == 2
    assert "is not a whole number above 0" in capsys.readouterr().err


def test_drop_class_leaves_classes_out(folder, weights, capsys):
    assert run(folder, weights, "--drop-class", "other", "--quiet") == 0
    printed = capsys.readouterr()
    assert "16 images of 12 subjects" in printed.out
    assert printed.err == ""


def test_unknown_subjects_are_reported(folder, weights, capsys):
    (folder / "labels.csv").write_text(
        (folder / "labels.csv").read_text().replace("patient", "number", 1)
    )
    usual = f"--target kind --folds 2 --backbone shufflenet_v2_x0_5 --weights {weights}"
    assert main(["evaluate", str(folder), "--frozen", "--quiet", *usual.split()]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("effboost: warning: no subjects are known")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "colour"], "no column 'colour' for the target; its columns are file, kind"),
        (["--drop-class", "basophil"], "no class 'basophil' to drop"),
        (["--backbone", "efficientnet-b0"], "did you mean"),
        (["--weights", "nowhere.pth"], "'nowhere.pth' does not exist; give --weights <a local"),
        (["--weights", "imagenet"], "; or --weights none for random weights"),
        (["--weights", "imagenet"], "; or use --backbone efficientnet_lite0, whose"),
        (["--preset", "best"], "there is no preset 'best'; the presets are"),
        (["--preset", "paper"], "--frozen and --preset paper cannot be combined"),
        (["--backbone", "resnet18"], "another architecture"),
        (["--epochs", "3"], "--frozen trains nothing"),
        (["--folds", "40"], "there are 12 subjects"),
        (["--folds", "1"], "use 2 to 12"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_leaves_nothing(
    folder, weights, tmp_path, capsys, arguments, message
):
    out = tmp_path / "results"
    assert run(folder, weights, "--quiet", "--out", str(out), *arguments) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("effboost: error: ")
    assert err.count("\n") == 1
    assert not out.exists()


def test_broken_image_is_reported(folder, paths, weights, capsys):
    os.truncate(paths[3], 200)
    assert run(folder, weights, "--quiet") == 1
    assert "cell_03.png" in capsys.readouterr().err


def test_output_that_is_a_file_raises_before_the_work(folder, weights, paths, capsys):
    assert run(folder, weights, "--out", paths[0]) == 1
    assert "is a file; name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["csv", "json"])
def test_report_is_printed_as_json_and_csv(folder, weights, tmp_path, capsys, format):
    out = tmp_path / "results"
    assert run(folder, weights, "--format", format, "--quiet", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    if format == "json":
        assert (
            json.loads(printed)["metrics"]
            == json.loads((out / "report.json").read_text())["metrics"]
        )
    else:
        assert printed == (out / "report_predictions.csv").read_text(encoding="utf-8")
        assert len(list(csv.DictReader(printed.splitlines()))) == 24


@pytest.mark.slow
def test_padding_warning_names_the_options(folder, weights, capsys):
    usual = f"--target kind --folds 2 --backbone shufflenet_v2_x0_5 --weights {weights} --quiet"
    more = "--group patient --frozen --crop-size 48"
    assert main(["evaluate", str(folder), *usual.split(), *more.split()]) == 0
    warning = capsys.readouterr().err
    assert "smaller than --crop-size 48 x 48 are padded with black" in warning
    assert "--crop-size none uses whole images" in warning


def test_cache_option_keeps_features(folder, weights, tmp_path, capsys):
    cache = tmp_path / "cache"
    assert run(folder, weights, "--quiet", "--cache", str(cache), "--preset", "frozen") == 0
    assert any(cache.rglob("*"))


def test_ctrl_c_exits_with_130_without_traceback(folder, weights, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("effboost.evaluate", interrupt, raising=False)
    assert run(folder, weights, "--quiet") == 130
    assert capsys.readouterr().err == "effboost: interrupted\n"


def test_help_does_not_import_torch():
    code = (
        "import sys; from effboost.cli import main\n"
        "try: main(['evaluate', '--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "examples:" in result.stdout
    assert result.stdout.endswith("False\n")


def test_python_m_effboost_runs_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "effboost", "--version"], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert result.stdout.startswith("effboost ")


@pytest.mark.slow
def test_an_html_report_and_a_model_card_are_written(folder, weights, tmp_path, capsys):
    page, card = tmp_path / "report.html", tmp_path / "MODEL_CARD.md"
    assert run(folder, weights, "--report", str(page), "--model-card", str(card)) == 0
    printed = capsys.readouterr().out
    assert f"written to {page}, {card}" in printed
    text = page.read_text(encoding="utf-8")
    accuracy = next(line for line in printed.splitlines() if line.startswith("accuracy"))
    assert accuracy.split(maxsplit=1)[1].strip() in text
    assert text.count("<section") == 10
    assert card.read_text(encoding="utf-8").startswith("# Model card")


def test_files_are_not_overwritten(folder, weights, tmp_path, capsys):
    """Checked before the work, which is not started here: there are no such weights."""
    table, page, out = folder / "labels.csv", tmp_path / "r.html", tmp_path / "out"
    before = table.read_bytes()
    page.write_text("mine")
    out.mkdir()
    (out / "report_subjects.png").write_text("mine")
    nothing = tmp_path / "none.pth"
    for options, message in (
        (("--model-card", table), "labels.csv' exists: name another file, or give --force"),
        (("--report", page), "r.html' exists"),
        (("--out", out), "report_subjects.png' exists: name another --out, or give --force"),
        (("--report", tmp_path / "x.html", "--model-card", out / "../x.html"), "the same file"),
        (("--report", tmp_path / "x.pdf"), "--report writes HTML"),
        (("--report", page, "--out", out, "--force"), "none.pth"),
    ):
        assert run(folder, nothing, *map(str, options)) == 1
        assert message in capsys.readouterr().err
    assert table.read_bytes() == before
    assert page.read_text() == "mine"


@pytest.mark.parametrize("option", ["--report", "--model-card"])
def test_unwritable_file_raises_before_the_work(folder, weights, option, capsys):
    assert run(folder, weights, option, str(folder)) == 1
    assert "is a folder; name a file" in capsys.readouterr().err
    assert run(folder, weights, option, str(folder / "no" / "report.html")) == 1
    assert "does not exist" in capsys.readouterr().err


def test_sites_are_read_from_a_column_or_from_names(folder, weights, capsys):
    table = folder / "labels.csv"
    with table.open(newline="") as file:
        header, *rows = csv.reader(file)
    people = sorted({row[2] for row in rows})
    kinds = {row[2]: row[1] for row in rows}
    # Half of the people of each kind work at each site.
    by_kind = {kind: [p for p in people if kinds[p] == kind] for kind in set(kinds.values())}
    first = {p for own in by_kind.values() for p in own[: len(own) // 2]}
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*header, "laboratory"])
        writer.writerows([*row, "A" if row[2] in first else "B"] for row in rows)
    assert run(folder, weights, "--site", "laboratory", "--quiet") == 0
    printed = capsys.readouterr().out
    assert "2 sites, each by models fitted on the others" in printed
    assert "within the site" in printed
    assert run(folder, weights, "--site", "city") == 1
    assert "no column 'city' for the site; its columns are file, kind" in capsys.readouterr().err


def test_sites_in_names_of_files():
    root = Path("A_study/x")
    data = Bunch(table={}, paths=np.array([f"{root}/A_1.png", f"{root}/B_2.png"], dtype=object))
    assert find_sites(data, r"([AB])_", root) == ["A", "B"]
    assert find_sites(data, r"^([AB])_", root) == ["A", "B"]
    with pytest.raises(ValueError, match=r"finds no site in 'A_study/x/B_2\.png'"):
        find_sites(data, r"(A)_", root)
    for pattern in ("A_", "(A"):
        with pytest.raises(ValueError, match="must be a regular expression with one group"):
            find_sites(data, pattern, root)
    data.table = {"lab": ["A", ""]}
    with pytest.raises(ValueError, match=r"1 of the 2 images have no site in column 'lab', .*B_2"):
        find_sites(data, "lab", root)
