import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.cnmc import write_tree
from common.networks import TinyNet
from effboost.comparators import COMPARATORS
from effboost.datasets import make_blood_cells
from effboost.exceptions import DatasetError, IncompleteDataWarning, UnsupportedInputError
from effboost.reproduction import reproduce
from effboost.reproduction._data import join_duplicates, load_data
from effboost.reproduction._measure import _cpu_milliseconds, describe_networks, measure
from effboost.reproduction._plan import Plan, _describe

HYBRID = "hybrid_efficientnet_b0"
TABLES_AND_FIGURES = {
    "reproduction.md",
    "reproduction.txt",
    "reproduction.json",
    "figure_5.png",
    "figures_6_and_8.png",
    "figure_7.png",
}
# Class names as a hostile user would choose them.
BLAST, HEALTHY = "blast|<b>$x$", "healthy_*"


def write_cells(folder, names=("ALL", "HEM"), n_subjects=8, n_images=4):
    cells = make_blood_cells(n_subjects, n_images, image_size=48, random_state=0)
    rows = [("file", "label", "subject")]
    for i, pixels in enumerate(cells.images):
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
        rows.append((f"{i:02d}.png", names[int(cells.target[i] == "HEM")], cells.groups[i]))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return write_cells(tmp_path_factory.mktemp("cells"))


def run(data, out, systems=("res_rand_svm",), **options):
    small = {
        "quick": True,
        "backbone": TinyNet,
        "image_size": 24,
        "max_epochs": 1,
        "runtime": "torch",
    }
    return reproduce(data, out, systems=systems, **(small | options))


def load(root, **options):
    usual = {"target": None, "group": None, "drop_classes": (), "quick": False, "seed": 0}
    return load_data(root, **(usual | options))


def times(out):
    return {file.name: file.stat().st_mtime_ns for file in (Path(out) / "systems").iterdir()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of three systems on classes with hostile names."""
    data = write_cells(tmp_path_factory.mktemp("hostile"), (BLAST, HEALTHY))
    out = tmp_path_factory.mktemp("out")
    systems = (HYBRID, "hybrid_vgg16", "res_rand_svm")
    return data, out, systems, run(data, out, systems, positive=BLAST)


@pytest.mark.slow
def test_tables_and_figures_are_written(finished):
    _, out, systems, found = finished
    assert {file.name for file in out.iterdir()} == {*TABLES_AND_FIGURES, "systems"}
    for name in ("figure_5.png", "figures_6_and_8.png", "figure_7.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 300
            assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    assert (out / "reproduction.txt").read_text() == f"{found}\n"
    data = json.loads((out / "reproduction.json").read_text())
    assert tuple(data["systems"]) == systems
    assert data["systems"]["res_rand_svm"]["reported"][0]["value"] == 0.9
    measured = data["systems"][HYBRID]["measured"]["honest"]
    assert "sensitivity_at_95_specificity" in measured["report"]["metrics"]


@pytest.mark.slow
def test_table_has_reported_and_measured_scores(finished):
    *_, found = finished
    lines = str(found).splitlines()
    row = "".join(line for line in lines if line.startswith("res_rand_svm"))
    result = found.results["res_rand_svm"]["honest"]
    accuracy = result.report["metrics"]["accuracy"]
    interval = f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
    assert "accuracy 0.900, precision 0.902, recall 0.957, F1 0.929" in row
    assert interval in row
    assert "TinyNet (random)" in row
    assert f"{result.parameters:,}" in row
    assert lines[0].startswith("QUICK: ")
    assert lines[1].startswith("RANDOM WEIGHTS: ")
    assert "Epochs: 1. Image size: 24 pixels. Seed: 0." in lines


@pytest.mark.slow
def test_result_of_a_system_has_all_measurements(finished):
    *_, found = finished
    result = found.results[HYBRID]["paper"]
    outputs = 2 * (8 + 1)
    trunk = sum(p.numel() for p in TinyNet().parameters()) - 1000 * (8 + 1)
    assert result.parameters == trunk + outputs
    assert result.size_bytes > 4 * result.parameters
    assert min(result.train_seconds, result.single_ms, result.batch_ms) > 0
    kept = result.predictions
    right = np.mean(np.array(kept["true"]) == np.array(kept["pred"]))
    assert right == pytest.approx(result.report["metrics"]["accuracy"]["value"], abs=1e-6)
    assert np.shape(kept["probabilities"]) == (8, 2)
    assert len(kept["index"]) == len(kept["group"]) == 8


@pytest.mark.slow
def test_hybrids_share_one_result_when_the_backbone_is_given(finished):
    _, out, _, found = finished
    assert found.results["hybrid_vgg16"] == found.results[HYBRID]
    assert f"the same as {HYBRID}" in str(found)
    assert not list((out / "systems").glob("hybrid_vgg16*"))


@pytest.mark.slow
def test_names_from_the_data_are_escaped_in_markdown_and_figures(finished):
    _, out, *_ = finished
    text = (out / "reproduction.md").read_text()
    assert r"blast\|\<b\>\$x\$" in text
    assert r"healthy\_\*" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    columns = {line.replace(r"\|", "").count("|") for line in tables}
    assert columns == {15, 7}


@pytest.mark.slow
def test_a_second_run_measures_nothing(finished):
    data, out, systems, found = finished
    before = times(out)
    (out / "figure_5.png").unlink()
    again = run(data, out, systems, positive=BLAST)
    assert times(out) == before
    assert str(again) == str(found)
    assert (out / "figure_5.png").is_file()


@pytest.fixture(scope="module")
def once(cells, tmp_path_factory):
    """The folder of a finished run of one system."""
    out = tmp_path_factory.mktemp("once")
    run(cells, out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("change", ["image_size", "random_state", "weights"])
def test_results_are_not_reused_when_settings_differ(cells, once, tmp_path, change):
    file = tmp_path / "tiny.pth"
    torch.save(TinyNet().state_dict(), file)
    before = times(once)
    changes = {"image_size": 32, "random_state": 1, "weights": file}
    run(cells, once, **{change: changes[change]})
    after = times(once)
    assert len(after) == len(before) + 2
    assert before.items() <= after.items()


@pytest.mark.slow
def test_results_are_not_reused_when_a_label_or_an_image_differs(tmp_path):
    data, out = write_cells(tmp_path), tmp_path / "out"
    run(data, out)
    table = data / "labels.csv"
    table.write_text(table.read_text().replace("00.png,ALL", "00.png,HEM"))
    run(data, out)
    assert len(times(out)) == 4
    Image.open(data / "00.png").rotate(90).save(data / "00.png")
    run(data, out)
    assert len(times(out)) == 6


@pytest.mark.slow
def test_damaged_result_is_measured_again(cells, once, tmp_path):
    shutil.copytree(once / "systems", tmp_path / "systems")
    found = run(cells, tmp_path).results["res_rand_svm"]["honest"]
    file = tmp_path / "systems" / f"{found.stem}.json"
    file.write_text(file.read_text()[:100])
    again = run(cells, tmp_path).results["res_rand_svm"]["honest"]
    assert again.predictions == found.predictions
    assert json.loads(file.read_text())["key"] == found.key


@pytest.mark.slow
def test_killed_run_can_be_resumed(cells, tmp_path):
    code = (
        "import sys\n"
        "from common.networks import TinyNet\n"
        "from effboost.reproduction import reproduce\n"
        "reproduce(*sys.argv[1:3], systems=sys.argv[3:], quick=True, backbone=TinyNet,\n"
        "          image_size=24, max_epochs=1, runtime='torch')\n"
    )
    systems = ["res_rand_svm", "inception_xgboost", HYBRID]
    path = os.pathsep.join(p for p in sys.path if p)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(cells), str(tmp_path), *systems],
        env=os.environ | {"PYTHONPATH": path},
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("systems/*.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {name: at for name, at in times(tmp_path).items() if name.endswith(".json")}
    assert 1 <= len(done) < 6
    assert not (tmp_path / "reproduction.md").exists()
    found = run(cells, tmp_path, systems)
    assert done.items() <= times(tmp_path).items()
    assert not found.failures
    assert {file.name for file in tmp_path.iterdir()} >= TABLES_AND_FIGURES


@pytest.mark.slow
def test_ctrl_c_stops_the_run_and_keeps_finished_results(cells, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(cells, tmp_path, backbone=interrupt)
    assert times(tmp_path) == {}


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.slow
def test_failed_system_is_reported_and_the_others_run(cells, tmp_path):
    # Its five poolings leave nothing of 24 pixels.
    found = run(cells, tmp_path, ["rezayi_cnn", "res_rand_svm"])
    assert len(found.failures) == 2
    assert found.failures[0].startswith("rezayi_cnn, split by image: ValueError: ")
    assert found.results["res_rand_svm"]["honest"].error is None
    row = next(line for line in str(found).splitlines() if line.startswith("rezayi_cnn"))
    assert row.count("failed") == 4
    assert "0.821" in row
    assert "## Failed" in (tmp_path / "reproduction.md").read_text()


@pytest.mark.slow
def test_a_system_that_failed_is_tried_again(cells, tmp_path):
    weights = tmp_path / "tiny.pth"
    found = run(cells, tmp_path, weights=weights)
    assert "WeightsNotFoundError" in found.failures[0]
    torch.save(TinyNet().state_dict(), weights)
    found = run(cells, tmp_path, weights=weights)
    assert found.failures == ()
    assert found.results["res_rand_svm"]["honest"].weights == "file"


@pytest.mark.slow
def test_unavailable_imagenet_weights_are_reported_as_failure(cells, tmp_path):
    found = run(cells, tmp_path, quick=False, backbone=None)
    assert "WeightsNotFoundError" in found.failures[0]
    assert "RANDOM" not in str(found)


@pytest.mark.parametrize("name", COMPARATORS)
def test_backbone_replaces_only_published_networks(name):
    plan = Plan(
        backbone="mobilenet_v2",
        weights="mobilenet_v2.pth",
        freeze_batch_norm=True,
        image_size=None,
        max_epochs=None,
        runtime="auto",
        quick=True,
        cropped=True,
        positive=None,
        seed=0,
    )
    clf = plan.make(name)
    network, weights = describe_networks(clf)
    params = clf.get_params()
    frozen = [value for key, value in params.items() if key.endswith("freeze_batch_norm")]
    is_tuned = COMPARATORS[name].is_tuned
    if COMPARATORS[name].network == "pretrained":
        assert (network, weights) == ("mobilenet_v2", "file")
        assert all(frozen)
        assert bool(frozen) == is_tuned
    else:
        assert "mobilenet" not in network
        assert weights == "random"
        assert not any(frozen)
    epochs = {value for key, value in params.items() if key.endswith("max_epochs")}
    assert epochs == ({2} if is_tuned else set())


@pytest.mark.slow
def test_unknown_system_raises_with_the_known_ones(cells, tmp_path):
    with pytest.raises(UnsupportedInputError, match=r"'vgg' is not a system; .* hybrid_eff"):
        run(cells, tmp_path / "out", ["vgg"])
    with pytest.raises(UnsupportedInputError, match="'blast' is not a class"):
        run(cells, tmp_path / "out", positive="blast")
    with pytest.raises(DatasetError, match="does not exist"):
        run(cells / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def sides(data, split):
    return [set(data.subjects[rows]) for rows in (split.train, split.validation, split.test)]


@pytest.mark.slow
def test_only_the_split_by_image_shares_subjects(cells):
    data = load(cells)
    paper, honest = data.splits
    train, _, test = sides(data, paper)
    assert len(train & test) == data.shared(paper)[0] > 4
    train, _, test = sides(data, honest)
    assert train & test == set()
    assert data.shared(honest) == (0, 0)
    for split in data.splits:
        assert len(split.train) + len(split.test) == 32
        assert set(data.target[split.test]) == {"ALL", "HEM"}


def test_subjects_who_share_an_image_are_one_group(tmp_path):
    write_cells(tmp_path)
    # The same picture of the first and the third subject, and of the third and the fifth.
    for a, b in ((0, 8), (9, 16)):
        (tmp_path / f"{b:02d}.png").write_bytes((tmp_path / f"{a:02d}.png").read_bytes())
    data = load(tmp_path)
    assert set(data.images.groups) == {"S000+S002+S004", "S001", "S003", "S005", "S006", "S007"}
    assert data.shared(data.splits[1]) == (0, 0)


@pytest.mark.parametrize(("n_subjects", "share"), [(8, "a quarter of"), (4, "50% (8) of")])
def test_the_share_that_is_tested_is_said(tmp_path, n_subjects, share):
    data = load(write_cells(tmp_path, n_subjects=n_subjects))
    assert data.splits[1].description.startswith(share)


def test_groups_are_joined_through_other_groups():
    groups = np.array(["d", "a", "b", "b", "c", "e"])
    prints = np.array(["1", "2", "2", "3", "3", "4"])
    joined = join_duplicates(groups, prints)
    assert joined.tolist() == ["d", "a+b+c", "a+b+c", "a+b+c", "a+b+c", "e"]


def test_a_picture_that_many_share_makes_one_group_with_a_short_name():
    """As of blank tiles, where each image is its own subject."""
    prints = np.array(["blank"] * 400 + ["1", "2"])
    joined = join_duplicates(np.arange(402).astype(str), prints)
    assert set(joined[:400]) == {"0 and 399 more"}
    assert joined[400:].tolist() == ["400", "401"]


def test_a_function_that_builds_another_network_is_another_setting():
    def describe(n_features):
        def build():
            return TinyNet(n_features)

        return _describe(build)

    assert describe(4) == describe(4) != describe(5)


@pytest.mark.slow
def test_unknown_subjects_are_reported(cells, tmp_path):
    for label in ("ALL", "HEM"):
        (tmp_path / label).mkdir()
        for i in range(0, 32):
            if (i // 4 % 2 == 0) == (label == "ALL"):
                content = (cells / f"{i:02d}.png").read_bytes()
                (tmp_path / label / f"{i}.png").write_bytes(content)
    data = load(tmp_path)
    assert data.subjects is None
    assert "NO SUBJECTS ARE KNOWN" in data.splits[1].description
    found = run(tmp_path, tmp_path / "out")
    assert "unknown subjects" in str(found)


def fill(root):
    """Write a picture of its own into each file of a tree."""
    rng = np.random.default_rng(0)
    for file in sorted(root.rglob("*.bmp")):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(file)


def load_tree(root, **options):
    with pytest.warns(IncompleteDataWarning):
        return load(root, **options)


@pytest.mark.parametrize("layout", ["mirror", "archive"])
def test_c_nmc_is_recognised_by_its_layout_and_split_as_in_the_paper(tmp_path, layout):
    fill(write_tree(tmp_path, layout))
    data = load_tree(tmp_path)
    paper, honest = data.splits
    assert data.title == "C-NMC 2019"
    assert set(data.target) == {"ALL", "HEM"}
    assert paper.train.tolist() == honest.train.tolist() == list(range(8))
    assert len(paper.validation) == len(paper.test) == 16
    train, validation, test = sides(data, paper)
    assert validation & test
    assert not train & test
    train, validation, test = sides(data, honest)
    assert not validation & test


def test_c_nmc_subjects_who_share_an_image_are_left_out_of_training(tmp_path):
    fill(write_tree(tmp_path))
    preliminary = tmp_path / "validation_data/C-NMC_test_prelim_phase_data/1.bmp"
    twin = tmp_path / "training_data/fold_1/hem/UID_H12_1_1_hem.bmp"
    twin.write_bytes(preliminary.read_bytes())
    data = load_tree(tmp_path)
    paper, honest = data.splits
    assert len(paper.train) == 8
    assert len(honest.train) == 7
    assert "H12" not in set(data.subjects[honest.train])


def test_options_for_known_data_are_refused(tmp_path):
    for root in (write_tree(tmp_path), None):
        with pytest.raises(UnsupportedInputError, match="drop_classes are not for"):
            load(root, target="label")


def test_quick_keeps_images_of_every_subject(tmp_path, monkeypatch):
    monkeypatch.setattr("effboost.reproduction._data._QUICK_IMAGES", 20)
    data = load(write_cells(tmp_path), quick=True)
    assert len(data.target) == 20
    counts = np.unique(data.subjects, return_counts=True)[1]
    assert len(counts) == 8
    assert set(counts) == {2, 3}


def test_validation_images_are_passed_to_fit(tmp_path):
    fill(write_tree(tmp_path))
    data = load_tree(tmp_path)
    clf = COMPARATORS["efficientnet_b0"].factory(
        backbone=TinyNet,
        weights=None,
        image_size=24,
        crop_size=None,
        max_epochs=1,
        runtime="torch",
        random_state=0,
    )
    found = measure(clf, data, data.splits[0], None, None)
    assert "valid_acc" in found["report"]["history"][0][0]


@pytest.mark.slow
def test_times_are_measured_for_one_image_and_a_batch(cells):
    class Slow:
        def predict(self, images):
            time.sleep(0.02)

    single, batch = _cpu_milliseconds(Slow(), load(cells).images)
    assert 18 < single < 60
    assert batch < single / 8
