import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import effboost
from effboost.cli import main
from effboost.datasets import list_images

NETWORK = ("--backbone", "shufflenet_v2_x0_5", "--weights", "none", "--image-size", "32")


def features(*arguments):
    return main(["features", *map(str, arguments), "--quiet"])


def read(folder):
    return pd.read_parquet(folder).sort_values("position", ignore_index=True)


def test_rows_are_what_the_network_computes(new_cells, model_file, tmp_path, capsys):
    out = tmp_path / "features.parquet"
    assert features(new_cells, "--model", model_file, "--out", out, "--block-size", 8) == 0
    assert "images per second" in capsys.readouterr().out
    table = read(out)
    model, paths = effboost.load(model_file), list_images(new_cells)
    assert table["path"].tolist() == paths
    assert table["position"].tolist() == list(range(20))
    assert table.columns[2:].tolist() == model.get_feature_names_out().tolist()
    found = table.iloc[:, 2:].to_numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, model.transform(paths))
    assert [file.name for file in sorted(out.iterdir())] == [
        f"part-00000{i}.parquet" for i in range(3)
    ]


@pytest.mark.slow
def test_a_preset_needs_no_model(new_cells, tmp_path, capsys):
    out = tmp_path / "features.parquet"
    assert features(new_cells, *NETWORK, "--out", out, "--format", "json") == 0
    assert read(out).shape == (20, 2 + 1024)
    assert '"written": 20' in capsys.readouterr().out
    assert features(new_cells, "--preset", "paper", "--out", tmp_path / "f") == 1
    assert "--preset paper trains its network" in capsys.readouterr().err
    assert features(new_cells, *NETWORK, "--model", "m.effboost", "--out", tmp_path / "f") == 1
    assert "--model has its own network: leave out --backbone" in capsys.readouterr().err


def test_rejects_are_skipped_or_raise(new_cells, model_file, tmp_path, capsys):
    paths = list_images(new_cells)
    for i in (3, 17):
        os.truncate(paths[i], 40 * i)
    out, rejects = tmp_path / "f.parquet", tmp_path / "rejects.csv"
    first = ("--model", model_file, "--out", out, "--block-size", 6)
    assert features(new_cells, *first) == 1
    assert f"image at position 3, {paths[3]!r}: is damaged" in capsys.readouterr().err
    skip = ("--on-error", "skip", "--rejects", rejects)
    assert features(new_cells, *first, *skip) == 0
    assert f"2 of 20 images could not be read, see {str(rejects)!r}" in capsys.readouterr().err
    assert read(out)["position"].tolist() == [i for i in range(20) if i not in (3, 17)]
    table = pd.read_csv(rejects)
    assert table["path"].tolist() == [paths[3], paths[17]]
    assert table["position"].tolist() == [3, 17]


def test_resume_computes_only_missing_images(new_cells, model_file, tmp_path, capsys):
    out = tmp_path / "f.parquet"
    options = ("--model", model_file, "--out", out, "--block-size", 7)
    assert features(new_cells, *options) == 0
    whole = read(out)
    (out / "part-000001.parquet").unlink()
    left = out / ".part-000002.parquet.0123abcd.part"
    left.write_bytes(b"half a file")
    assert features(new_cells, *options) == 1
    assert "is not empty" in capsys.readouterr().err
    assert features(new_cells, *options, "--resume", "--format", "csv") == 0
    assert "written,7\nwritten before,13\n" in capsys.readouterr().out
    pd.testing.assert_frame_equal(read(out), whole)
    assert not left.exists()
    assert features(new_cells / "slide0", *options, "--force") == 0
    assert len(read(out)) == 10


def test_new_images_change_the_positions_of_former_rows(new_cells, model_file, tmp_path, capsys):
    names = list_images(new_cells)
    later = {path: tmp_path / str(i) for i, path in enumerate([names[0], names[2], names[7]])}
    os.truncate(names[1], 40)
    for path, hidden in later.items():
        shutil.move(path, hidden)
    out, rejects = tmp_path / "f.parquet", tmp_path / "rejects.csv"
    options = ("--model", model_file, "--out", out, "--block-size", 7)
    options += ("--on-error", "skip", "--rejects", rejects)
    assert features(new_cells, *options) == 0
    before = read(out).set_index("path").drop(columns="position")
    for path, hidden in later.items():
        shutil.move(hidden, path)
    os.truncate(names[2], 40)
    assert features(new_cells, *options, "--resume", "--format", "csv") == 0
    table = read(out)
    assert table["position"].tolist() == [i for i in range(20) if i not in (1, 2)]
    assert table["path"].tolist() == [names[i] for i in table["position"]]
    pd.testing.assert_frame_equal(table.set_index("path").loc[before.index, before.columns], before)
    found = pd.read_csv(rejects)
    assert dict(zip(found["path"], found["position"], strict=True)) == {names[1]: 1, names[2]: 2}
    # Rows of images that are not in the list any more.
    assert features(new_cells / "slide0", *options, "--resume") == 0
    table = pd.read_parquet(out)
    listed = list_images(new_cells / "slide0")
    expected = [listed.index(path) if path in listed else -1 for path in table["path"]]
    assert table["position"].tolist() == expected
    assert {-1, 0} < set(expected)


@pytest.mark.slow
def test_resume_raises_for_files_of_others(new_cells, model_file, tmp_path, capsys):
    out = tmp_path / "f.parquet"
    assert features(new_cells / "slide0", *NETWORK, "--out", out) == 0
    assert features(new_cells, *NETWORK, "--out", out, "--seed", 1, "--resume") == 1
    assert "it was written by another network" in capsys.readouterr().err
    wider = ("--preset", "recommended", *NETWORK)
    assert features(new_cells, *wider, "--out", out, "--resume") == 1
    assert "name another --out, or give --force" in capsys.readouterr().err
    (out / "part-000000.parquet").write_bytes(b"no parquet")
    assert features(new_cells, *NETWORK, "--out", out, "--resume") == 1
    assert "is no parquet file" in capsys.readouterr().err


def test_names_that_parquet_cannot_hold_raise_before_the_work(new_cells, tmp_path, capsys):
    odd = new_cells / os.fsdecode(b"\xff.png")
    shutil.copy(list_images(new_cells)[0], odd)
    assert features(new_cells, *NETWORK, "--out", tmp_path / "f") == 1
    assert "is not UTF-8" in capsys.readouterr().err


def test_missing_pyarrow_names_the_extra(new_cells, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert features(new_cells, *NETWORK, "--out", tmp_path / "f") == 1
    assert "pip install 'effboost[parquet]'" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_run_can_be_resumed(many_cells, model_file, tmp_path):
    out = tmp_path / "f.parquet"
    options = ("--model", model_file, "--out", out, "--block-size", 20, "--resume")
    command = [sys.executable, "-m", "effboost", "features", many_cells, *options, "--quiet"]
    for n_files in (1, 3):
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(out.glob("part-*"))) < n_files:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
    assert features(many_cells, *options) == 0
    table = read(out)
    paths = list_images(many_cells)
    assert table["path"].tolist() == paths
    np.testing.assert_array_equal(table.iloc[:, 2:], effboost.load(model_file).transform(paths))
