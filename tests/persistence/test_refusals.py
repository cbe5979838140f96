"""Every member of a model file attacked in turn: nothing is written, run, or left over."""

import io
import json
import os
import pickle
import struct
import time
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from torch.nn import functional

import effboost
from common.model_files import edit, read_members, write_members
from common.networks import TinyNet
from effboost.exceptions import EffboostError, ModelFileError
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


def refuse(path, message, **options):
    before = sorted(path.parent.rglob("*")), Path.cwd(), path.is_file() and path.read_bytes()
    with pytest.raises(ModelFileError, match=message) as caught:
        effboost.load(path, **{"backbone": TinyNet} | options)
    assert caught.value.path == str(path)
    assert isinstance(caught.value, EffboostError)
    assert isinstance(caught.value, ValueError)
    after = sorted(path.parent.rglob("*")), Path.cwd(), path.is_file() and path.read_bytes()
    assert after == before


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles_are_named_and_not_run(protocol, trap, tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(trap, protocol=protocol))
    refuse(path, "is a pickle or joblib file: .* can run any code")


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3)])
def test_joblib_files_are_named_and_not_run(compress, trap, tmp_path):
    path = tmp_path / "model.joblib"
    joblib.dump(trap, path, compress=compress)
    refuse(path, "joblib files .*joblib.load reads it")


def test_files_of_torch_save_are_named_and_not_run(trap, tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"weights": trap}, path)
    refuse(path, "is a file of torch.save, which is a pickle")


def test_other_files_are_told_apart(tmp_path):
    path = tmp_path / "file"
    np.savez(path.with_suffix(".npz"), a=np.zeros(3))
    refuse(path.with_suffix(".npz"), r"\.npz file of NumPy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    refuse(path, "is another zip file: its first member is 'word/document.xml'")
    for content, message in [
        (b"", r"is empty \(0 bytes\)"),
        (b"P", "is no model of effboost"),
        (b"label,path\n", "is no model of effboost"),
    ]:
        path.write_bytes(content)
        refuse(path, message)


def test_folders_pipes_and_missing_files(tmp_path):
    refuse(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "is not a regular file")
    with pytest.raises(FileNotFoundError):
        effboost.load(tmp_path / "nowhere")


def test_every_truncation_is_refused(saved):
    content = saved.read_bytes()
    for length in [*range(0, 100), *range(100, len(content), 499), len(content) - 1]:
        saved.write_bytes(content[:length])
        refuse(saved, "empty|truncated|no model|another zip")
    saved.write_bytes(content + b"\0")
    refuse(saved, "something was appended")


@pytest.mark.slow
def test_every_flipped_bit_is_noticed(saved):
    content = saved.read_bytes()
    rng = np.random.default_rng(0)
    n, some = len(content), rng.integers(0, len(content), 500)
    for place in [*range(80), *some, *range(n - 300, n)]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(flipped)
        refuse(saved, "damaged|member|zip|no model|pickle|directory|truncated")


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
def test_members_with_paths_for_names_are_refused(name, saved):
    with zipfile.ZipFile(saved, "a") as archive:
        info = zipfile.ZipInfo("placeholder.x")
        info.filename = name
        archive.writestr(info, b"x")
    refuse(saved, "has an invalid name|two parts|damaged")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_are_twice_unknown_or_missing_are_refused(saved):
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
    refuse(saved, "'booster-1.ubj' is not there")
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
def test_manifests_that_are_none_are_refused(text, message, saved):
    _, members = read_members(saved.read_bytes())
    saved.write_bytes(write_members(text, members, rehash=False))
    refuse(saved, message)


def test_a_newer_format_says_which_effboost_wrote_it(saved):
    def change(manifest, members):
        manifest["version"], manifest["made_with"]["effboost"] = 3, "9.1"

    refuse(edit(saved, change), r"has format 3, of effboost '9\.1'; .* formats up to 2: update")


@pytest.mark.parametrize("version", [0, -1, True, "1", None, 1.0])
def test_formats_that_never_were_are_refused(version, saved):
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
        "classes is no array",
    ),
    "few classes": (
        lambda m: m["model"].update(classes={"array": ["<i8", [0, 1]]}),
        "decides between other classes",
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
def test_what_a_manifest_may_not_ask_for(change, message, saved):
    refuse(edit(saved, lambda manifest, _: change(manifest) and None), message)


def test_a_network_takes_no_memory_before_its_weights_are_there(saved):
    """Ten million outputs of VGG16 would take 160 gigabytes."""

    def change(manifest, members):
        spec = {"name": "vgg16", "family": "", "weights": None, "head": "last_linear"}
        spec["mean"] = spec["std"] = {"tuple": [1.0, 1.0, 1.0]}
        spec["options"] = {"tuple": [{"tuple": ["num_classes", 10**7]}]}
        backbone = {"spec": spec, "factory": False, "is_spec": True}
        for name in ("featurizer", "featurizer_"):
            manifest["model"][name]["backbone"] = backbone
        params(manifest)["features"] = "logits"

    refuse(edit(saved, change), "lacks tensor 'network.features.0.bias'", backbone=None)


def featurizer(change):
    """Make a change of both featurizers of a manifest, the fitted one and the one it is of."""

    def change_both(manifest, members=None):
        for name in ("featurizer", "featurizer_"):
            change(manifest["model"][name])

    return change_both


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


def with_network(name, options):
    """Make a change of the network to one of torchvision's with some options."""

    def change(part):
        spec = {"name": name, "family": "", "weights": None, "head": "last_linear"}
        spec["mean"] = spec["std"] = {"tuple": [1.0, 1.0, 1.0]}
        pairs = [{"tuple": [key, value]} for key, value in options.items()]
        spec["options"] = {"tuple": pairs}
        part["backbone"] = {"spec": spec, "factory": False, "is_spec": True}

    return featurizer(change)


SETTINGS = [[6, 10**6, 10**9, 1]] * 100
OPTIONS = {
    "channels": ("mobilenet_v2", {"inverted_residual_setting": [[6, 10**9, 1, 1]]}, "lacks tensor"),
    "layers": ("mobilenet_v2", {"inverted_residual_setting": SETTINGS}, "10,000 tensors"),
    "a window": (
        "swin_t",
        {"window_size": [10**5, 10**5]},
        "computes large tensors|cannot be built",
    ),
    "width": ("mobilenet_v2", {"width_mult": 1e30}, "cannot be built|lacks tensor"),
    "an unknown one": ("resnet18", {"eval": "1"}, "cannot be built"),
}


@pytest.mark.parametrize(("name", "options", "message"), OPTIONS.values(), ids=OPTIONS.keys())
def test_options_that_make_huge_networks_are_refused_at_once(name, options, message, saved):
    start = time.perf_counter()
    edit(saved, lambda manifest, _: with_network(name, options)(manifest))
    refuse(saved, message, backbone=None)
    assert time.perf_counter() - start < 20


def test_networks_are_not_run_while_loading(monkeypatch):
    """Features of stages made it run one image of the size that the file says."""
    golden = GOLDEN / "format-1-recommended.effboost"
    expected = effboost.load(golden).featurizer_._n_features_out
    conv2d = functional.conv2d

    def refuse_numbers(x, *args, **kwargs):
        assert x.is_meta
        return conv2d(x, *args, **kwargs)

    monkeypatch.setattr(functional, "conv2d", refuse_numbers)
    assert effboost.load(golden).featurizer_._n_features_out == expected


def settings(name, value):
    return featurizer(lambda part: part["params"].update({name: value}))


SETTINGS_OF_IMAGES = {
    "size": (
        lambda m: [
            settings("image_size", 4096)(m),
            m["model"]["featurizer_"]["transform"].update(image_size=4096),
        ],
        "images of 4096 pixels a side; 2048",
    ),
    "stain of another type": (settings("stain", [["x"]]), "stain|parameters"),
    "stain that is unknown": (settings("stain", "x"), "stain"),
    "stages of another type": (
        settings("extra_features", {"tuple": [1]}),
        "cannot be used|damaged",
    ),
    "stages of text": (settings("extra_features", "x"), "extra_features"),
    "stages that do not exist": (
        settings("extra_features", {"tuple": [{"tuple": [-900, "avg"]}]}),
        "stage -900|cannot be used",
    ),
    "shape": (settings("image_shape", {"tuple": [1.5, "x"]}), "image_shape is not height"),
    "negative shape": (settings("image_shape", [-1, 2]), "image_shape is not height"),
    "device": (settings("device", "meta"), "device is 'meta'"),
    "another device": (settings("device", "x" * 10**5), "not a device of torch"),
    "width": (lambda m: m["model"]["featurizer_"].update(width=999), "999"),
    "seen": (
        lambda m: m["model"]["featurizer_"]["seen"].update(n_features_in_=5),
        "has seen 5 columns",
    ),
    "history": (
        lambda m: m["model"]["featurizer_"].update(history=[{"dict": [["a", [1]]]}]),
        "list of epochs",
    ),
    "classes of two types": (
        lambda m: m["model"].update(classes={"array": ["|O", ["a", 1]]}),
        "classes are not of one type",
    ),
    "one class twice": (
        lambda m: m["model"].update(classes={"array": ["<U1", ["a", "a"]]}),
        "one appears twice",
    ),
    "metrics": (
        lambda m: m["model"].update(evals_result={"dict": [["train", 1]]}),
        "a dictionary of metrics",
    ),
}


@pytest.mark.parametrize(
    ("change", "message"), SETTINGS_OF_IMAGES.values(), ids=SETTINGS_OF_IMAGES.keys()
)
def test_settings_that_no_prediction_could_use_are_refused(change, message, tmp_path):
    path = tmp_path / "model.effboost"
    path.write_bytes((GOLDEN / "format-1-recommended.effboost").read_bytes())
    edit(path, lambda manifest, _: change(manifest) and None)
    refuse(path, message, backbone=None)


# The weights.


def with_header(content, change):
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header = change(header) or header
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


WEIGHT = "network.features.0.weight"
HEADERS = {
    "pickle": (lambda h: pickle.dumps(h), "header of network.safetensors is damaged"),
    "missing": (lambda h: h.pop(WEIGHT) and None, "overlap, or there is a gap"),
    "renamed": (lambda h: h.update(x=h.pop(WEIGHT)), "lacks tensor"),
    "type": (lambda h: h[WEIGHT].update(dtype="O"), "of an unknown type"),
    "shape": (
        lambda h: h[WEIGHT].update(shape=[2**40, 2**40]),
        "not as large as its shape",
    ),
    "negative": (lambda h: h[WEIGHT].update(shape=[-6, 3, -3, 3]), "an impossible shape or place"),
    "turned": (lambda h: h[WEIGHT].update(shape=[3, 6, 3, 3]), r"float32 \[3, 6, 3, 3\]; the net"),
    "place": (
        lambda h: h[WEIGHT].update(data_offsets=[0, 648]),
        "overlap|not as large",
    ),
    "thousands of digits": (
        # Multiplying them took half a minute.
        lambda h: h[WEIGHT].update(shape=[10**3000] * 200),
        "an integer has 3001 digits",
    ),
    "many axes": (lambda h: h[WEIGHT].update(shape=[1] * 999), "an impossible shape"),
    "metadata": (lambda h: h.update(__metadata__={"a": "b"}), "has an unknown field 'a'"),
}


@pytest.mark.parametrize(("change", "message"), HEADERS.values(), ids=HEADERS.keys())
def test_tensors_that_do_not_fit_are_refused(change, message, saved):
    def change_network(manifest, members):
        members["network.safetensors"] = with_header(members["network.safetensors"], change)

    refuse(edit(saved, change_network), message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value, saved):
    def change(manifest, members):
        content = bytearray(members["network.safetensors"])
        content[-4:] = np.float32(value).tobytes()
        members["network.safetensors"] = bytes(content)

    refuse(edit(saved, change), "contains NaN or infinity")


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\0" * 100, pickle.dumps(1)])
def test_members_that_are_something_else_are_refused(content, trap, saved_voting):
    names = read_members(saved_voting.read_bytes())[1]
    whole = saved_voting.read_bytes()
    assert {name.partition(".")[2] for name in names} == {"safetensors", "skops", "ubj"}
    for name in names:
        for attack in (content, pickle.dumps(trap)):
            manifest, members = read_members(whole)
            saved_voting.write_bytes(write_members(manifest, members | {name: attack}))
            refuse(saved_voting, "network|booster|heads|zip|directory|truncated")
