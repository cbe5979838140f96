"""Networks of timm by name: what is known about them, and weights that fit them."""

import importlib
import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.fx.proxy import TraceError

from effboost import ImageFeaturizer, ImageTransform
from effboost.backbones import (
    BackboneSpec,
    append_stages,
    build_backbone,
    get_backbone_spec,
    list_frozen,
    list_stages,
    timm_spec,
)
from effboost.exceptions import (
    MissingDependencyError,
    UnknownBackboneError,
    UnsupportedInputError,
    WeightsMismatchError,
    WeightsNotFoundError,
)

timm = pytest.importorskip("timm")

VIT = "timm/test_vit"
# A DINOv2 of two narrow blocks.
DINO_OPTIONS = {"embed_dim": 32, "depth": 2, "num_heads": 2}
DINO = timm_spec("vit_small_patch14_dinov2.lvd142m", **DINO_OPTIONS)
REGISTERS = timm_spec("vit_small_patch14_reg4_dinov2", **DINO_OPTIONS)


def build(spec, weights=None, image_size=28, **options):
    return build_backbone(spec, weights, seed=0, keep_head=False, image_size=image_size, **options)


def noise(side=28):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def run(module, side=28):
    with torch.inference_mode():
        return module(noise(side))


def spread(state):
    """Return weights like these, none of which is as a new network has it."""
    generator = torch.Generator().manual_seed(7)
    return {
        key: torch.randn(value.shape, generator=generator) * 0.1 for key, value in state.items()
    }


# ---------------------------------------------------------------- names and configuration


def test_a_spec_has_timms_settings():
    spec = get_backbone_spec("timm/vit_small_patch14_dinov2.lvd142m")
    assert spec == timm_spec("vit_small_patch14_dinov2.lvd142m")
    assert (spec.image_size, spec.head, spec.family) == (518, "head", "timm")
    assert spec.weights == "hf-hub:timm/vit_small_patch14_dinov2.lvd142m"
    assert get_backbone_spec("timm/tf_efficientnet_lite0").mean == (0.5, 0.5, 0.5)
    own = timm_spec("inception_resnet_v2", weights="file:///w-01234567.pth")
    assert own.weights == "file:///w-01234567.pth"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("timm/vit_smal_patch14_dinov2.lvd142m", "'timm/vit_small_patch14_dinov2.lvd142m'"),
        ("timm/vit_tiny_patch16_224.nope", "'timm/vit_tiny_patch16_224"),
        ("timm/vit_tiny_patch16_224_in21k", "it is now 'timm/vit_tiny_patch16_224.augreg_in21k'"),
        ("timm/@@@", "timm.list_models()"),
        ("timm/hf-hub:timm/resnet18.a1_in1k", "timm has no network"),
        ("timm/local-dir:/etc", "timm has no network"),
        ("vit_tiny_patch16_224", "timm has it: 'timm/vit_tiny_patch16_224'"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name, hint):
    with pytest.raises(UnknownBackboneError, match=re.escape(hint)) as caught:
        get_backbone_spec(name)
    assert name.removeprefix("timm/") in str(caught.value)


def test_images_that_are_not_square_are_refused():
    with pytest.raises(UnknownBackboneError, match=r"takes images of \(3, 1024, 768\)"):
        get_backbone_spec("timm/vit_base_patch16_sapiens2.fb")


def test_without_timm_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match=r"effboost\[timm\]"):
        get_backbone_spec(VIT)


@pytest.mark.parametrize(
    "options", [{"checkpoint_path": "x.pth"}, {"depth": "2"}, {"depth": True}, {"img_size": 32}]
)
def test_other_options_are_refused(options):
    with pytest.raises(UnsupportedInputError, match="is not an option"):
        timm_spec("test_vit", **options).build()


# ---------------------------------------------------------------- building


@pytest.mark.parametrize("name", ["test_vit", "test_vit3", "test_efficientnet", "test_convnext"])
def test_features_are_what_the_head_takes(name):
    spec = get_backbone_spec(f"timm/{name}")
    module = build(spec, image_size=64)
    whole = build_backbone(spec, None, seed=0, image_size=64)
    whole.load_state_dict(module.state_dict(), strict=False)
    with torch.inference_mode():
        tokens = whole.forward_features(noise(64))
        expected = whole.forward_head(tokens, pre_logits=True)
    torch.testing.assert_close(run(module, 64), expected)
    assert whole(noise(64)).shape == (2, 1000)


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_generator():
    state = torch.get_rng_state()
    first, second = build(get_backbone_spec(VIT), None, 32), build(get_backbone_spec(VIT), None, 32)
    assert torch.equal(run(first, 32), run(second, 32))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("side", "near"), [(30, "28 or 42"), (13, "14$"), (225, "224 or 238")])
def test_a_size_that_patches_do_not_fill_is_refused(side, near):
    with pytest.raises(UnsupportedInputError, match=f"not a multiple of that; use {near}"):
        build(DINO, image_size=side)


def test_tokens_are_the_class_token_or_the_mean_of_the_patches():
    module = build(REGISTERS)
    module.load_state_dict(spread(module.state_dict()))
    with torch.inference_mode():
        tokens = module.forward_features(noise())
    assert tokens.shape == (2, 1 + 4 + 4, 32)
    first, mean = tokens[:, 0], tokens[:, 5:].mean(1)
    for features, rows in {"pooled": first, "cls_token": first, "avg_tokens": mean}.items():
        other = build(REGISTERS, features=features)
        other.load_state_dict(module.state_dict())
        torch.testing.assert_close(run(other), rows)


@pytest.mark.parametrize(
    ("name", "features", "message"),
    [
        ("timm/test_convnext", "avg_tokens", "is for vision transformers"),
        ("timm/deit_tiny_distilled_patch16_224", "cls_token", "is for vision transformers"),
        ("timm/test_vit_relpos", "cls_token", "has no class token"),
        ("resnet18", "cls_token", "is for vision transformers of timm"),
    ],
)
def test_tokens_that_a_network_lacks_are_refused(name, features, message):
    with pytest.raises(UnsupportedInputError, match=message):
        build(get_backbone_spec(name), image_size=64, features=features)


def test_logits_of_a_network_without_classifier_are_refused(pixels):
    featurizer = ImageFeaturizer(
        DINO, weights=None, training=None, features="logits", transform=ImageTransform(None, 28)
    )
    with pytest.raises(UnsupportedInputError, match="no layer that classifies"):
        featurizer.fit(pixels)


# ---------------------------------------------------------------- weights from files


def dinov2_names(state, registers=False):
    """Return weights of timm as DINOv2 saves them: position embeddings with the class token."""
    found = dict(state) | {"mask_token": torch.zeros(1, 32)}
    if registers:
        found["register_tokens"] = found.pop("reg_token")
        first = torch.full((1, 1, 32), 0.25)
        found["cls_token"] = found["cls_token"] - first
        found["pos_embed"] = torch.cat([first, found["pos_embed"]], dim=1)
    return found


def transformers_names(state):
    """Return weights of timm by the names of Hugging Face's transformers."""
    found = {"embeddings.mask_token": torch.zeros(1, 32)}
    for key, value in state.items():
        key = re.sub(r"^patch_embed\.proj", "embeddings.patch_embeddings.projection", key)
        key = re.sub(r"^pos_embed$", "embeddings.position_embeddings", key)
        key = re.sub(r"^cls_token$", "embeddings.cls_token", key)
        key = re.sub(r"^blocks\.", "encoder.layer.", key)
        key = re.sub(r"^norm\.", "layernorm.", key)
        key = re.sub(r"\.ls(\d)\.gamma$", r".layer_scale\1.lambda1", key)
        key = key.replace(".attn.proj.", ".attention.output.dense.")
        if ".attn.qkv." in key:
            for part, own in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[key.replace(".attn.qkv.", f".attention.attention.{part}.")] = own.clone()
        else:
            found[key] = value
    return found


def of_a_training(state):
    """Return a checkpoint of DINOv2's training: a teacher with heads, its blocks in chunks."""
    chunked = {
        re.sub(r"^blocks\.(\d+)\.", r"blocks.\1.\1.", key): value for key, value in state.items()
    }
    heads = {"dino_head.mlp.0.weight": torch.ones(3, 3), "ibot_head.last_layer.bias": torch.ones(1)}
    return {"teacher": {f"backbone.{key}": value for key, value in chunked.items()} | heads}


def student_and_teacher(state):
    other = {f"student.backbone.{key}": torch.zeros_like(value) for key, value in state.items()}
    return {"model": {f"teacher.backbone.{key}": value for key, value in state.items()} | other}


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        (lambda state: state, ".pth"),
        (lambda state: state, ".bin"),
        (lambda state: state, ".safetensors"),
        (dinov2_names, ".pth"),
        (dinov2_names, ".safetensors"),
        (lambda state: of_a_training(dinov2_names(state)), ".pth"),
        (lambda state: student_and_teacher(dinov2_names(state)), ".pth"),
        (transformers_names, ".safetensors"),
        (lambda state: {f"dinov2.{k}": v for k, v in transformers_names(state).items()}, ".bin"),
    ],
)
def test_checkpoints_of_dinov2_load_from_a_file(kind, ending, tmp_path):
    """DinoBloom's files are such checkpoints: a teacher's, for images of 224 pixels."""
    own = build(DINO)
    own.load_state_dict(spread(own.state_dict()))
    file = tmp_path / f"weights{ending}"
    content = kind(dict(own.state_dict()))
    if ending == ".safetensors":
        save_file({key: value.contiguous() for key, value in content.items()}, file)
    else:
        torch.save(content, file)
    loaded = build(DINO, file)
    torch.testing.assert_close(run(loaded), run(own), rtol=0, atol=0)
    assert "state_dict" not in loaded.pretrained_cfg


def test_register_tokens_are_converted(tmp_path):
    own = build(REGISTERS)
    own.load_state_dict(spread(own.state_dict()))
    content = dinov2_names(own.state_dict(), registers=True)
    del content["mask_token"]
    torch.save(content, tmp_path / "registers.pth")
    torch.testing.assert_close(run(build(REGISTERS, tmp_path / "registers.pth")), run(own))


def test_position_embeddings_are_interpolated_to_the_size_at_hand(tmp_path):
    own = build(DINO, image_size=56)
    own.load_state_dict(spread(own.state_dict()))
    torch.save(own.state_dict(), tmp_path / "w.pth")
    loaded = build(DINO, tmp_path / "w.pth", image_size=28)
    assert loaded.pos_embed.shape == (1, 5, 32)
    own.set_input_size((28, 28))
    torch.testing.assert_close(run(loaded), run(own))


def test_a_classifier_may_have_other_classes_or_be_missing(tmp_path):
    spec = get_backbone_spec("timm/test_efficientnet")
    own = timm.create_model("test_efficientnet", num_classes=3).eval()
    state = spread(own.state_dict())
    state |= {key: value.abs() for key, value in state.items() if key.endswith("running_var")}
    own.load_state_dict(state)
    torch.save(own.state_dict(), tmp_path / "three.pth")
    with torch.inference_mode():
        expected = own.forward_head(own.forward_features(noise(32)), pre_logits=True)
    torch.testing.assert_close(run(build(spec, tmp_path / "three.pth", 32), 32), expected)
    with pytest.raises(WeightsMismatchError) as caught:
        build_backbone(spec, tmp_path / "three.pth", seed=0)
    assert set(caught.value.misshaped) == {"classifier.weight", "classifier.bias"}


def test_weights_of_another_network_are_refused_with_every_key(tmp_path):
    state = dict(build(DINO).state_dict())
    state["strange"] = state.pop("norm.weight")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsMismatchError, match="do not fit backbone 'timm/vit_small") as caught:
        build(DINO, tmp_path / "w.pth")
    assert caught.value.missing == ("norm.weight",)
    assert caught.value.unexpected == ("strange",)
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "cnn.pth")
    with pytest.raises(WeightsMismatchError):
        build(DINO, tmp_path / "cnn.pth")


# ---------------------------------------------------------------- published weights


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of huggingface_hub, from which nothing can be downloaded."""
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_weights_come_from_the_cache_of_the_hub(hub):
    spec = get_backbone_spec("timm/test_vit.r160_in1k")
    own = timm.create_model("test_vit").eval()
    own.load_state_dict(spread(own.state_dict()))
    repository = hub / "models--timm--test_vit.r160_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file(dict(own.state_dict()), snapshot / "model.safetensors")
    module = build_backbone(spec, "imagenet", seed=0)
    torch.testing.assert_close(run(module, 160), run(own, 160), rtol=0, atol=0)


def test_weights_that_cannot_be_had_name_the_file_and_where_it_goes(hub):
    with pytest.raises(WeightsNotFoundError) as caught:
        build(DINO, "imagenet")
    message = str(caught.value)
    assert "huggingface.co/timm/vit_small_patch14_dinov2.lvd142m/resolve/main/model.safe" in message
    assert "weights=<its path>" in message
    assert "HF_HUB_CACHE" in message


# ---------------------------------------------------------------- stages and features


def test_blocks_are_stages():
    spec = get_backbone_spec(VIT)
    module = build(spec, image_size=32)
    stages = list_stages(module, spec)
    assert [stage[0] for stage in stages] == [module.patch_embed, *module.blocks]
    assert module.norm in stages[-1]
    frozen = list_frozen(module, spec, 2)
    assert module.blocks[3] in frozen
    assert module.blocks[4] not in frozen
    assert module in frozen  # class token and position embeddings
    spec = get_backbone_spec("timm/test_efficientnet")
    module = build(spec, image_size=32)
    first, *_, last = list_stages(module, spec)
    assert {module.conv_stem, module.bn1} <= set(first)
    assert {module.conv_head, module.bn2} <= set(last)


def test_features_of_blocks_are_pooled_over_patch_tokens():
    module = build(REGISTERS)
    module.load_state_dict(spread(module.state_dict()))
    with torch.inference_mode():
        tokens = module.norm_pre(module._pos_embed(module.patch_embed(noise())))
        first = module.blocks[0](tokens)
        last = module.norm(module.blocks[1](first))
        pooled = [first[:, 5:].mean(1), first[:, 5:].std(1, correction=0), last[:, 5:].amax(1)]
    extra = ((-2, "avg"), (-2, "std"), (-1, "max"))
    network = append_stages(module, REGISTERS, extra, 28)
    torch.testing.assert_close(run(network), torch.cat([run(module), *pooled], dim=1))


def test_stages_of_a_transformer_are_the_quarters_of_its_blocks():
    spec = timm_spec("test_vit", depth=8, embed_dim=64)
    network = append_stages(build(spec, image_size=32), spec, "stages", 32)
    assert [name for name, _ in network.pooled] == [
        name for name in ("norm", "blocks.5", "blocks.3", "blocks.1") for _ in range(2)
    ]
    assert run(network, 32).shape == (2, 64 * 9)


@pytest.mark.parametrize("name", ["tf_mobilenetv3_small_minimal_100", "test_vit"])
def test_networks_that_torch_fx_cannot_trace_have_features_of_stages(name):
    spec = get_backbone_spec(f"timm/{name}")
    module = build(spec, image_size=64)
    with pytest.raises(TraceError):
        torch.fx.symbolic_trace(module)
    more = run(append_stages(module, spec, "stages", 64), 64)
    assert more.shape[1] > run(module, 64).shape[1]


def test_a_spec_of_another_family_is_no_network_of_timm():
    assert BackboneSpec("timm/x", factory=torch.nn.Flatten).timm_name is None
    assert get_backbone_spec("resnet18").timm_name is None


def test_the_size_of_the_network_is_used_where_none_is_given(pixels):
    featurizer = ImageFeaturizer(
        VIT,
        weights=None,
        training=None,
        runtime="torch",
        transform=ImageTransform(None, None, normalize="backbone"),
    ).fit(pixels)
    assert featurizer.transform_.image_size == 160
    assert featurizer.transform_.mean_and_std == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert featurizer.transform(pixels[:2]).shape == (2, 64)
    assert np.isfinite(featurizer.transform(pixels[:2])).all()
