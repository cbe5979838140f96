import dataclasses
import hashlib
import os
import pickle
import resource
import signal
import time

import pytest
import safetensors.torch
import torch
from torch import nn

from common.networks import TinyNet
from common.unprivileged import without_privileges
from effboost.backbones import build_backbone, get_backbone_spec
from effboost.exceptions import WeightsError, WeightsMismatchError, WeightsNotFoundError


@pytest.fixture
def spec():
    return get_backbone_spec(TinyNet)


@pytest.fixture
def trained(spec):
    return build_backbone(spec, None, seed=42)


@pytest.fixture
def published(spec, trained, tmp_path):
    """A spec whose ImageNet weights lie behind a URL, named by their hash as torchvision's are."""
    raw = tmp_path / "raw.pth"
    torch.save(trained.state_dict(), raw)
    digest = hashlib.sha256(raw.read_bytes()).hexdigest()
    file = raw.rename(tmp_path / f"tiny-{digest[:8]}.pth")
    return dataclasses.replace(spec, weights=file.as_uri()), file


def same(module, other):
    other = other.state_dict()
    return all(torch.equal(value, other[key]) for key, value in module.state_dict().items())


def cached_file(torch_home, file):
    return torch_home / "hub" / "checkpoints" / file.name


def test_imagenet_weights_are_downloaded_once_and_kept_in_torch_home(
    published, trained, torch_home
):
    spec, file = published
    assert same(build_backbone(spec, "imagenet", seed=0), trained)
    assert cached_file(torch_home, file).is_file()
    file.unlink()  # from now on only the kept copy can serve
    assert same(build_backbone(spec, "imagenet", seed=0), trained)


class WithAnAttention(TinyNet):
    """A known network with a layer of one's own."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Conv1d(1, 1, 3, bias=False)


def test_only_fresh_layers_may_be_missing_in_the_weights(published, trained):
    spec, _ = published
    changed = dataclasses.replace(spec, factory=WithAnAttention)
    with pytest.raises(WeightsMismatchError, match=r"1 missing, such as 'attention\.weight'"):
        build_backbone(changed, "imagenet", seed=0)
    changed = dataclasses.replace(changed, fresh=("attention", "classifier"))
    module = build_backbone(changed, "imagenet", seed=0)
    assert same(trained, module)
    assert not torch.equal(
        module.attention.weight, build_backbone(changed, None, seed=1).attention.weight
    )


def test_damaged_copy_raises(published, torch_home):
    spec, file = published
    build_backbone(spec, "imagenet", seed=0)
    kept = cached_file(torch_home, file)
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    with pytest.raises(WeightsError, match=r"is damaged.*Delete it"):
        build_backbone(spec, "imagenet", seed=0)


def test_download_with_wrong_content_leaves_no_file(published, torch_home):
    spec, file = published
    file.write_bytes(b"something else")
    with pytest.raises(WeightsNotFoundError, match="invalid hash"):
        build_backbone(spec, "imagenet", seed=0)
    assert list((torch_home / "hub" / "checkpoints").iterdir()) == []


def test_without_internet_the_error_names_the_file_its_folder_and_alternatives(torch_home):
    spec = get_backbone_spec("efficientnet_b0")
    with pytest.raises(WeightsNotFoundError) as caught:
        build_backbone(spec, "imagenet", seed=0)
    message = str(caught.value)
    place = torch_home / "hub" / "checkpoints" / "efficientnet_b0_rwightman-7f5810bc.pth"
    assert str(place) in message
    assert "weights=None" in message
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("place", ["/dev/null", "file", "file/below", "x" * 300])
def test_imagenet_weights_without_a_usable_folder_raise_with_a_remedy(
    published, tmp_path, monkeypatch, place
):
    spec, _ = published
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / place))
    with pytest.raises(WeightsNotFoundError, match="folder for them cannot be made") as caught:
        build_backbone(spec, "imagenet", seed=0)
    assert "set TORCH_HOME to a folder that can be written" in str(caught.value)
    assert str(tmp_path / place) in str(caught.value)


def test_home_that_is_not_a_folder_raises_with_a_remedy(published, monkeypatch):
    spec, _ = published
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    with pytest.raises(WeightsNotFoundError, match="set TORCH_HOME"):
        build_backbone(spec, "imagenet", seed=0)


def test_weights_that_may_not_be_read_or_written_raise_with_a_remedy(
    published, torch_home, tmp_path
):
    spec, file = published
    torch_home.chmod(0o500)
    file.chmod(0)
    tmp_path.chmod(0o755)
    with without_privileges():
        with pytest.raises(WeightsNotFoundError, match=r"Permission denied.*set TORCH_HOME"):
            build_backbone(spec, "imagenet", seed=0)
        # The test's folders may not be entered by others at all.
        with pytest.raises(WeightsError, match=r"cannot be read|does not exist"):
            build_backbone(spec, file, seed=0)
    torch_home.chmod(0o700)


def test_full_disk_during_a_download_raises_with_a_remedy(published, torch_home):
    spec, file = published
    place = cached_file(torch_home, file)
    place.parent.mkdir(parents=True)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with pytest.raises(WeightsNotFoundError, match=r"downloaded \(.*File too large"):
            build_backbone(spec, "imagenet", seed=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert list(place.parent.iterdir()) == []


def test_folder_in_the_place_of_the_weights_raises(published, torch_home):
    spec, file = published
    cached_file(torch_home, file).mkdir(parents=True)
    with pytest.raises(WeightsError, match="cannot be read"):
        build_backbone(spec, "imagenet", seed=0)


def test_factory_without_published_weights_raises(spec):
    with pytest.raises(WeightsError, match="no published weights"):
        build_backbone(spec, "imagenet", seed=0)


@pytest.mark.parametrize("wrap", [dict, lambda s: {"state_dict": s}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_pth_files_of_training_scripts_load(spec, trained, tmp_path, wrap, prefix):
    state = {prefix + key: value for key, value in trained.state_dict().items()}
    torch.save(wrap(state), tmp_path / "w.pth")
    assert same(build_backbone(spec, tmp_path / "w.pth", seed=0), trained)


def test_safetensors_files_load(spec, trained, tmp_path):
    safetensors.torch.save_file(trained.state_dict(), tmp_path / "w.safetensors")
    assert same(build_backbone(spec, str(tmp_path / "w.safetensors"), seed=0), trained)


def test_weights_of_another_architecture_raise_with_their_keys(spec, trained, tmp_path):
    state = trained.state_dict()
    state["extra.weight"] = state.pop("features.0.weight")
    state["features.3.weight"] = torch.zeros(8, 6, 5, 5)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsMismatchError) as caught:
        build_backbone(spec, tmp_path / "w.pth", seed=0)
    assert caught.value.missing == ("features.0.weight",)
    assert caught.value.unexpected == ("extra.weight",)
    assert caught.value.misshaped == ("features.3.weight",)
    for part in ("1 missing", "1 unexpected", "1 of another shape", "TinyNet"):
        assert part in str(caught.value)


def test_head_of_other_classes_loads_unless_the_head_is_kept(spec, trained, tmp_path):
    state = trained.state_dict()
    state["classifier.weight"], state["classifier.bias"] = torch.zeros(2, 8), torch.zeros(2)
    torch.save(state, tmp_path / "w.pth")
    module = build_backbone(spec, tmp_path / "w.pth", seed=0, keep_head=False)
    assert torch.equal(module.features[0].weight, trained.features[0].weight)
    with pytest.raises(WeightsMismatchError, match="another number of classes"):
        build_backbone(spec, tmp_path / "w.pth", seed=0, keep_head=True)


def test_densenet_files_with_old_names_load(tmp_path):
    spec = get_backbone_spec("densenet121")
    module = build_backbone(spec, None, seed=3)
    old = {
        key.replace(".norm1.", ".norm.1.")
        .replace(".norm2.", ".norm.2.")
        .replace(".conv1.", ".conv.1.")
        .replace(".conv2.", ".conv.2."): value
        for key, value in module.state_dict().items()
    }
    torch.save(old, tmp_path / "densenet121.pth")
    url = (tmp_path / "densenet121.pth").as_uri()
    spec = dataclasses.replace(spec, weights=url)
    assert same(build_backbone(spec, "imagenet", seed=0), module)


class Malicious:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("save", [torch.save, lambda o, f: f.write_bytes(pickle.dumps(o))])
def test_code_in_a_weight_file_is_not_run(spec, tmp_path, save):
    mark = tmp_path / "it_ran"
    save({"weight": Malicious(str(mark))}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="could run code"):
        build_backbone(spec, tmp_path / "evil.pth", seed=0)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken"])
def test_file_that_is_not_a_weight_file_raises(spec, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        build_backbone(spec, tmp_path / name, seed=0)


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}])
def test_file_without_a_state_dict_raises(spec, tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"not a state_dict|not tensors"):
        build_backbone(spec, tmp_path / "w.pth", seed=0)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (lambda weight: (weight * 100).to(torch.int8), "int8"),
        (lambda weight: weight > 0, "bool"),
        (lambda weight: weight.to(torch.complex64), "complex64"),
        (lambda weight: weight.reshape(len(weight), -1).to_sparse(), "sparse_coo"),
        (lambda weight: weight.to("meta"), "on meta"),
        (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "qint8"),
    ],
    ids=["int8", "bool", "complex", "sparse", "meta", "quantised"],
)
@pytest.mark.filterwarnings("ignore:.*quantiz:UserWarning")
@pytest.mark.filterwarnings("ignore:.*quantiz:DeprecationWarning")
def test_weights_that_are_no_plain_real_numbers_raise(spec, trained, tmp_path, kind, message):
    state = trained.state_dict()
    state["features.0.weight"] = kind(state["features.0.weight"])
    torch.save(state, tmp_path / "w.pth")
    files = [tmp_path / "w.pth"]
    if message in ("int8", "bool", "complex64"):  # safetensors has dense tensors alone
        files.append(tmp_path / "w.safetensors")
        safetensors.torch.save_file(state, files[1])
    for file in files:
        with pytest.raises(WeightsError, match=rf"'features.0.weight' as .*{message}"):
            build_backbone(spec, file, seed=0)


def test_one_name_with_and_without_prefix_raises(spec, trained, tmp_path):
    state = trained.state_dict()
    state["module.features.0.weight"] = torch.zeros_like(state["features.0.weight"])
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"with and without 'module\.'"):
        build_backbone(spec, tmp_path / "w.pth", seed=0)


def test_missing_weight_file_raises(spec, tmp_path):
    with pytest.raises(WeightsNotFoundError, match="does not exist"):
        build_backbone(spec, tmp_path / "nothing.pth", seed=0)
    with pytest.raises(WeightsNotFoundError, match="is a folder"):
        build_backbone(spec, tmp_path, seed=0)
    with pytest.raises(WeightsNotFoundError, match="does not exist"):
        build_backbone(spec, "x" * 300, seed=0)
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(WeightsNotFoundError, match="is a folder or a pipe, not a file"):
        build_backbone(spec, tmp_path / "pipe.pth", seed=0)


@pytest.mark.parametrize("name", ["sparse.pth", "sparse.safetensors", "zip.pth"])
def test_huge_weight_files_of_zeros_are_refused_quickly(name, spec, tmp_path):
    with (tmp_path / name).open("wb") as file:
        file.write(b"PK\x03\x04" if name == "zip.pth" else b"")
        file.truncate(10 * 2**30)
    start = time.process_time()
    with pytest.raises(WeightsError, match="damaged"):
        build_backbone(spec, tmp_path / name, seed=0)
    assert time.process_time() - start < 5
