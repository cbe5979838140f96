"""Every member of a model file attacked in turn: nothing is written, run, or left over."""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

import effboost
from common.model_files import edit, read_members, refuse, write_members
from common.networks import TinyNet
from effboost.exceptions import ModelFileError
from effboost.persistence import _manifest

GOLDEN = Path(__file__).parent / "golden"


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def trap(tmp_path):
    """What must never be run; beside the folder of the files, which must stay as it is."""
    yield Trap(tmp_path / "sprung")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles_are_refused_without_running_them(protocol, trap, tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(trap, protocol=protocol))
    refuse(path, "is a pickle or joblib file: .* can run any code")


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3)])
def test_joblib_files_are_refused_without_running_them(compress, trap, tmp_path):
    path = tmp_path / "model.joblib"
    joblib.dump(trap, path, compress=compress)
    refuse(path, "joblib files .*read it with joblib.load")


def test_files_of_torch_save_are_refused_without_running_them(trap, tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"weights": trap}, path)
    refuse(path, "is a file of torch.save, which is a pickle")


def test_other_files_are_refused_by_their_kind(tmp_path):
    path = tmp_path / "file"
    np.savez(path.with_suffix(".npz"), a=np.zeros(3))
    refuse(path.with_suffix(".npz"), r"\.npz file of NumPy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    refuse(path, "is another zip file: its first member is 'word/document.xml'")
    for content, message in [
        (b"", r"is empty \(0 bytes\)"),
        (b"P", "is not a model of effboost"),
        (b"label,path\n", "is not a model of effboost"),
    ]:
        path.write_bytes(content)
        refuse(path, message)


def test_folders_pipes_and_missing_files_are_refused(tmp_path):
    refuse(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "is not a regular file")
    with pytest.raises(FileNotFoundError):
        effboost.load(tmp_path / "nowhere")


def test_every_truncation_is_refused(saved):
    content = saved.read_bytes()
    for length in [*range(0, 100), *range(100, len(content), 499), len(content) - 1]:
        saved.write_bytes(content[:length])
        refuse(saved, "empty|truncated|not a model|another zip")
    saved.write_bytes(content + b"\0")
    refuse(saved, "something was appended")


@pytest.mark.slow
def test_every_flipped_bit_is_refused(saved):
    content = saved.read_bytes()
    rng = np.random.default_rng(0)
    n, some = len(content), rng.integers(0, len(content), 500)
    for place in [*range(80), *some, *range(n - 300, n)]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(flipped)
        refuse(saved, "damaged|member|zip|not a model|pickle|directory|truncated")


def test_a_wrong_hash_is_refused(saved):
    manifest, members = read_members(saved.read_bytes())
    network = bytearray(members["network.safetensors"])
    network[-1] ^= 1
    members["network.safetensors"] = bytes(network)
    saved.write_bytes(write_members(manifest, members, rehash=False))
    refuse(saved, "'network.safetensors' is damaged: its SHA-256 is not the one in manifest.json")


NAMES = {
    "parent": "../../x",
    "absolute": "/tmp/x",
    "drive": "C:\\x",
    "folder": "folder/x",
    "hidden": ".x",
    "reversed": "x\u202egnp.exe",
    "null": "network.safetensors\0.txt",
    "upper": "NETWORK.safetensors",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_members_with_invalid_names_are_refused(name, saved):
    with zipfile.ZipFile(saved, "a") as archive:
        info = zipfile.ZipInfo("placeholder.x")
        info.filename = name
        archive.writestr(info, b"x")
    refuse(saved, "has an invalid name|two parts|damaged")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_unknown_and_missing_members_are_refused(saved):
    content = saved.read_bytes()
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr(zipfile.ZipInfo("manifest.json"), b"{}")
    refuse(saved, "'manifest.json' appears twice")
    manifest, members = read_members(content)
    saved.write_bytes(write_members(manifest, {**members, "more.bin": b"x"}, rehash=False))
    refuse(saved, "'more.bin' is not listed")
    saved.write_bytes(write_members(manifest, {**members, "booster-7.ubj": b"x"}))
    refuse(saved, "'booster-7.ubj' is not part of the model")
    del members["booster-1.ubj"]
    saved.write_bytes(write_members(manifest, members, rehash=False))
    refuse(saved, "'booster-1.ubj' is missing")
    saved.write_bytes(write_members(manifest, members))
    refuse(saved, "unknown field 'evals_result'|not fitted")


def test_a_bomb_of_ten_gigabytes_of_zeros_is_refused(tmp_path):
    path = tmp_path / "bomb.effboost"
    manifest, _ = read_members((GOLDEN / "format-1-cnn.effboost").read_bytes())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        # A real one takes a minute to write: its directory says ten gigabytes, as a real one's.
        archive.writestr("network.safetensors", bytes(10**6))
        archive.getinfo("network.safetensors").file_size = 2**32 - 2
    refuse(path, "'manifest.json' is compressed; model files store", backbone=None)


def test_a_sparse_file_of_three_gigabytes_is_refused(tmp_path):
    path = tmp_path / "bomb.effboost"
    manifest, _ = read_members((GOLDEN / "format-1-cnn.effboost").read_bytes())
    size = 3 * 2**30
    manifest["members"] = {"network.safetensors": {"size": size, "sha256": "0" * 64}}
    with path.open("wb") as file:
        # The header of a member of zeros, which take no room on the disk, by hand.
        text = json.dumps(manifest).encode()
        directory = b""
        for name, content, length in (
            (b"manifest.json", text, len(text)),
            (b"network.safetensors", b"", size),
        ):
            crc = zipfile.crc32(content)
            head = struct.pack("<5H3I2H", 20, 0, 0, 0, 33, crc, length, length, len(name), 0)
            start = file.tell()
            file.write(b"PK\3\4" + head + name + content)
            directory += b"PK\1\2" + struct.pack("<2B", 20, 3) + head
            directory += struct.pack("<3H2I", 0, 0, 0, 0o600 << 16, start) + name
        file.seek(start + 30 + len(name) + size)
        place = file.tell()
        file.write(directory)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, len(directory), place, 0))
    with pytest.raises(ModelFileError, match="3,221,225,472 bytes; the limit is"):
        effboost.load(path)


def test_encrypted_members_are_refused(saved):
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        start = archive.start_dir
    content[start + 8] |= 1
    saved.write_bytes(content)
    refuse(saved, "'manifest.json' is encrypted")


def test_thousands_of_members_are_refused_before_they_are_listed(saved):
    content = bytearray(saved.read_bytes())
    content[-14:-10] = struct.pack("<HH", 60_000, 60_000)
    saved.write_bytes(content)
    refuse(saved, "it has 60,000 members; the limit is 1,024")


def test_a_directory_of_more_entries_than_it_says_is_refused(saved):
    """A million of them took a minute to read."""
    content = saved.read_bytes()
    end = content.rindex(b"PK\5\6")
    n, length = struct.unpack("<HI", content[end + 10 : end + 16])
    entry = content[content.index(b"PK\1\2") : end]
    more = entry * 1000
    record = content[end : end + 12] + struct.pack("<I", length + len(more)) + content[end + 16 :]
    saved.write_bytes(content[:end] + more + record)
    refuse(saved, f"its directory of .* bytes has more than {n} entries")


def test_bytes_between_members_are_refused(saved):
    manifest, members = read_members(saved.read_bytes())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.fp.write(b"hidden")
        archive.start_dir = archive.fp.tell()
        for name, part in members.items():
            archive.writestr(name, part)
    saved.write_bytes(stream.getvalue())
    refuse(saved, "does not directly follow the previous one")


# The manifest.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\x80\x04\x95", "manifest.json is damaged"),
        (b"[" * 100_000, "manifest.json is damaged"),
        (b"[1]", "manifest.json is a list"),
        (b'{"format": NaN}', "NaN is not JSON"),
        (b'{"a": 1, "a": 2}', "a name appears twice"),
        (b'{"version": ' + b"9" * 5000 + b"}", "manifest.json is damaged"),
        (b"{}" + b" " * 2**22, "the limit is 4,194,304"),
        (b"{}", "is not that of a model"),
    ],
)
def test_damaged_manifests_are_refused(text, message, saved):
    _, members = read_members(saved.read_bytes())
    saved.write_bytes(write_members(text, members, rehash=False))
    refuse(saved, message)


def test_a_newer_format_is_refused_with_its_version(saved):
    def change(manifest, members):
        manifest["version"], manifest["made_with"]["effboost"] = 3, "9.1"

    refuse(edit(saved, change), r"has format 3, of effboost '9\.1'; .* formats up to 2: update")


@pytest.mark.parametrize("version", [0, -1, True, "1", None, 1.0])
def test_invalid_format_versions_are_refused(version, saved):
    refuse(edit(saved, lambda m, _: m.update(version=version)), "has format|not that of a model")


def test_older_formats_are_migrated(saved, monkeypatch, pixels):
    expected = effboost.load(saved, backbone=TinyNet).predict_proba(pixels)

    def migrate(manifest):
        return manifest | {"version": 3, "kind": manifest["kind"].removeprefix("Old")}

    edit(saved, lambda m, _: m.update(kind=f"Old{m['kind']}"))
    refuse(saved, "contains a 'OldHybridClassifier', which is not a model")
    monkeypatch.setattr(_manifest, "VERSION", 3)
    monkeypatch.setitem(_manifest.MIGRATIONS, 2, migrate)
    assert np.array_equal(effboost.load(saved, backbone=TinyNet).predict_proba(pixels), expected)


def params(manifest):
    return manifest["model"]["featurizer_"]["params"]


def training(manifest, **changes):
    params(manifest)["training"] = {"FineTuning": changes}


EDITS = {
    "class": (lambda m: m.update(kind="os.system"), "contains a 'os.system'"),
    "field": (lambda m: m["model"].update(more=1), "has an unknown field 'more'"),
    "missing": (lambda m: m["model"].pop("heads"), "has no field 'heads'"),
    "featurizer": (
        lambda m: m["model"]["featurizer_"].update(kind="subprocess.Popen"),
        "is a 'subprocess.Popen', which is unknown",
    ),
    "backbone": (
        lambda m: m["model"]["featurizer_"].update(backbone="builtins.eval"),
        "no backbone is named 'builtins.eval'",
    ),
    "detector": (
        lambda m: m["model"]["featurizer_"].update(backbone="fasterrcnn_resnet50_fpn"),
        "no backbone is named",
    ),
    "parameter": (lambda m: params(m).update(module=1), "'module' of ImageFeaturizer is unknown"),
    "cache": (lambda m: params(m).update(cache="/etc"), "'cache' of ImageFeaturizer is unknown"),
    "value": (lambda m: training(m, max_epochs="x"), "max_epochs.*must be an int"),
    "typed": (lambda m: training(m, lr={"eval": "1"}), "of kind 'eval', which is unknown"),
    "augmentation": (
        lambda m: training(m, augmentation={"Augmentation": {"rotation": 1e9}}),
        "is not a Augmentation: The 'rotation'",
    ),
    "optimizer": (
        lambda m: training(m, optimizer={"optimizer": "lr_scheduler"}),
        "is not an optimizer of torch",
    ),
    "side": (
        lambda m: params(m).update(transform={"ImageTransform": {"crop_size": 10**9}}),
        "more than 8192 pixels a side",
    ),
    "width": (
        lambda m: m["model"]["featurizer_"].update(width=10**12),
        "is not a number of features",
    ),
    "classes": (
        lambda m: m["model"].update(classes={"array": ["<U1000000000", ["a", "b"]]}),
        "classes is not a valid array",
    ),
    "few classes": (
        lambda m: m["model"].update(classes={"array": ["<i8", [0, 1]]}),
        "its head has other classes than the model",
    ),
    "head": (
        lambda m: m["model"]["heads"]["heads"].update(classifier_=5),
        "'classifier_' does not exist",
    ),
    "booster": (
        lambda m: m["model"]["heads"]["boosters"][1].update(kind="Booster"),
        "is a 'Booster'",
    ),
    "jobs": (
        lambda m: m["model"]["heads"]["boosters"][1]["params"].update(n_jobs="all"),
        "'n_jobs' is a str",
    ),
    "transform": (
        lambda m: m["model"]["featurizer_"]["transform"].update(crop_size=5),
        "its transform was",
    ),
    "output": (
        lambda m: m["model"].update(output={"dict": [["transform", "pickle"]]}),
        "not a format of scikit-learn",
    ),
}


@pytest.mark.parametrize(("change", "message"), EDITS.values(), ids=EDITS.keys())
def test_invalid_values_in_a_manifest_are_refused(change, message, saved):
    refuse(edit(saved, lambda manifest, _: change(manifest) and None), message)


@pytest.mark.parametrize("depth", [70, 480, 600, 950, 3000])
def test_nested_histories_are_refused_and_not_described(depth, saved):
    """Reading them ended in a RecursionError."""
    manifest, members = read_members(saved.read_bytes())
    manifest["model"]["featurizer_"]["history"] = "here"
    nested = json.dumps(manifest).replace('"here"', "[" * depth + "]" * depth)
    saved.write_bytes(write_members(nested.encode(), members, rehash=False))
    refuse(saved, "nested more than 64 deep|is damaged")
    with pytest.raises(ModelFileError, match=r"nested more than 64 deep|is damaged"):
        effboost.describe_model(saved)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\0" * 100, pickle.dumps(1)])
def test_members_of_another_kind_are_refused(content, trap, saved_voting):
    names = read_members(saved_voting.read_bytes())[1]
    whole = saved_voting.read_bytes()
    assert {name.partition(".")[2] for name in names} == {"safetensors", "skops", "ubj"}
    for name in names:
        for attack in (content, pickle.dumps(trap)):
            manifest, members = read_members(whole)
            saved_voting.write_bytes(write_members(manifest, members | {name: attack}))
            refuse(saved_voting, "network|booster|heads|zip|directory|truncated")
