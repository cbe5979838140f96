import csv
import subprocess
import sys

import pytest
import torch

from effboost.backbones import build_backbone, get_backbone_spec
from effboost.cli import main


@pytest.fixture
def folder(paths, three_classes, subjects, tmp_path):
    rows = [("file", "kind", "patient"), *zip(paths, three_classes, subjects, strict=True)]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path


def run(folder, out, *more):
    usual = f"reproduce {folder} --out {out} --target kind --group patient --quick --quiet"
    return main([*usual.split(), "--backbone", "shufflenet_v2_x0_5", *more])


@pytest.mark.slow
def test_tables_are_printed_and_a_second_run_prints_the_same(folder, tmp_path, capsys):
    weights = tmp_path / "shufflenet.pth"
    spec = get_backbone_spec("shufflenet_v2_x0_5")
    torch.save(build_backbone(spec, None, seed=0).state_dict(), weights)
    options = ["--systems", "res_rand_svm", "--weights", str(weights), "--drop-class", "other"]
    out = tmp_path / "new" / "out"
    assert run(folder, out, *options) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "16 images of 12 subjects (8 blast, 8 healthy)" in printed.out
    assert "shufflenet_v2_x0_5 (file)" in printed.out
    assert f"written to {out}" in printed.out
    assert "FAILED" not in printed.out
    assert (out / "reproduction.md").is_file()
    assert run(folder, out, *options) == 0
    assert capsys.readouterr().out == printed.out


def test_failed_system_is_printed_and_exits_with_1(folder, tmp_path, capsys):
    # Its five poolings leave nothing of 24 pixels.
    options = ["--systems", "rezayi_cnn", "--image-size", "24", "--epochs", "1"]
    assert run(folder, tmp_path / "out", *options) == 1
    printed = capsys.readouterr()
    assert "FAILED:\nrezayi_cnn, split by image: ValueError: " in printed.out
    assert printed.err == "effboost: 2 failed, see FAILED above\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--systems", "vgg"], "'vgg' is not a system"),
        (["--positive", "ALL"], "--positive 'ALL' is not a class"),
        (["--target", "colour"], "no column 'colour'"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(folder, tmp_path, capsys, options, message):
    assert run(folder, tmp_path / "out", *options) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_invalid_number_exits_with_2(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run(folder, tmp_path / "out", "--epochs", "0")
    assert stop.value.code == 2


def test_help_shows_examples_without_torch():
    code = (
        "import sys; from effboost.cli import main\n"
        "try: main(['reproduce', '--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "examples:" in result.stdout
    assert result.stdout.endswith("False\n")
