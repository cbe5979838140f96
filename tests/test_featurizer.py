import pickle

import joblib
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torchvision.transforms import v2

from common.networks import TinyNet, tiny_featurizer
from effboost import Augmentation, Cache, EfficientNetFeaturizer, ImageFeaturizer, ImageSequence
from effboost._featurizer_keywords import build_featurizer
from effboost.backbones import build_backbone, get_backbone_spec, remove_head
from effboost.datasets import make_blood_cells
from effboost.exceptions import (
    DeviceWarning,
    UnknownBackboneError,
    UnsupportedInputError,
    WeightsMismatchError,
    WeightsNotFoundError,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "width", "side"),
    [
        ("efficientnet_b0", 1280, 32),
        ("resnet18", 512, 32),
        ("vgg16", 4096, 32),
        ("inception_v3", 2048, 75),
    ],
)
def test_the_networks_of_the_paper_give_float32_features_of_their_width(
    pixels, backbone, width, side
):
    featurizer = build_featurizer(
        backbone,
        kind=ImageFeaturizer,
        weights=None,
        fine_tune=False,
        crop_size=None,
        image_size=side,
        runtime="torch",
    )
    features = featurizer.fit_transform(pixels[:3])
    assert features.shape == (3, width)
    assert features.dtype == np.float32
    assert len(featurizer.get_feature_names_out()) == width
    assert len(np.unique(features, axis=0)) == 3


def test_logits_are_the_thousand_outputs_of_the_original_head(pixels):
    logits = tiny_featurizer(features="logits").fit(pixels)
    pooled = tiny_featurizer().fit(pixels)
    head = build_backbone(get_backbone_spec(TinyNet), None, seed=_seed_of(logits)).classifier
    with torch.no_grad():
        expected = head(torch.from_numpy(pooled.transform(pixels))).numpy()
    np.testing.assert_allclose(logits.transform(pixels), expected, rtol=1e-4, atol=1e-6)


def _seed_of(featurizer):
    return np.random.RandomState(featurizer.random_state).randint(2**31 - 1)


@pytest.mark.slow
@pytest.mark.parametrize("normalize", ["unit", "imagenet"])
def test_features_equal_torchvisions_own_pipeline(paths, normalize):
    """The network and the transforms exactly as a torchvision user would write them."""
    steps = [
        v2.CenterCrop(32),
        v2.Resize((48, 48), antialias=True),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
    ]
    if normalize == "imagenet":
        steps.append(v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    featurizer = build_featurizer(
        "resnet18",
        weights=None,
        fine_tune=False,
        crop_size=32,
        image_size=48,
        normalize=normalize,
        random_state=3,
    ).fit(paths)
    spec = get_backbone_spec("resnet18")
    network = remove_head(build_backbone(spec, None, seed=_seed_of(featurizer)), spec)
    batch = torch.stack([v2.Compose(steps)(Image.open(path)) for path in paths])
    with torch.no_grad():
        expected = network(batch).numpy()
    got = featurizer.transform(paths)
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("n", [1, 5, 8, 23])
def test_features_do_not_depend_on_other_images(pixels, n):
    featurizer = tiny_featurizer().fit(pixels)
    everything = featurizer.transform(pixels)
    order = np.random.default_rng(n).permutation(len(pixels))[:n]
    assert np.array_equal(featurizer.transform(pixels[order]), everything[order])


def test_paths_and_pixels_give_the_same_features(paths, pixels):
    featurizer = tiny_featurizer().fit(paths)
    assert np.array_equal(featurizer.transform(paths), featurizer.transform(pixels))


def test_rows_of_numbers_become_images_by_image_shape(pixels):
    rows = pixels.reshape(24, -1) / 255
    featurizer = tiny_featurizer(image_shape=(40, 40, 3)).fit(rows)
    assert featurizer.n_features_in_ == 4800
    assert np.array_equal(
        featurizer.transform(rows), tiny_featurizer().fit(pixels).transform(pixels)
    )
    with pytest.raises(ValueError, match=r"4799 features, but .* is expecting 4800"):
        featurizer.transform(rows[:, :-1])


def test_other_inputs_have_no_number_of_columns(pixels):
    assert not hasattr(tiny_featurizer().fit(pixels), "n_features_in_")


@pytest.mark.parametrize("copy", [pickle.dumps, None], ids=["pickle", "joblib"])
def test_a_saved_featurizer_gives_the_same_bits(pixels, tmp_path, copy):
    featurizer = tiny_featurizer().fit(pixels)
    expected = featurizer.transform(pixels)
    if copy is None:
        joblib.dump(featurizer, tmp_path / "f.joblib")
        loaded = joblib.load(tmp_path / "f.joblib")
    else:
        loaded = pickle.loads(pickle.dumps(featurizer))
    assert np.array_equal(loaded.transform(pixels), expected)


def test_a_clone_is_unfitted_and_has_the_same_parameters(pixels):
    featurizer = tiny_featurizer().fit(pixels)
    copy = clone(featurizer)
    assert copy.get_params() == featurizer.get_params()
    with pytest.raises(NotFittedError):
        copy.transform(pixels)


def test_the_same_seed_gives_the_same_features_and_another_gives_others(pixels):
    one, same, other = (
        tiny_featurizer(random_state=seed).fit_transform(pixels) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


def test_set_output_gives_a_data_frame(pixels):
    frame = tiny_featurizer().set_output(transform="pandas").fit_transform(pixels)
    assert list(frame.columns) == [f"imagefeaturizer{i}" for i in range(8)]
    assert (frame.dtypes == np.float32).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"backbone": "resnet_18"}, "did you mean"),
        ({"normalize": "zscore"}, "'normalize' parameter"),
        ({"features": "all"}, "'features' parameter"),
        ({"crop_size": 0}, "'crop_size' parameter"),
        ({"image_size": 2.5}, "'image_size' parameter"),
        ({"device": "abacus"}, "not a torch device"),
        ({"weights": 3}, "'weights' parameter"),
    ],
)
def test_a_wrong_parameter_is_named_in_fit(pixels, params, message):
    with pytest.raises(ValueError, match=message):
        tiny_featurizer(**params).fit(pixels)


def test_a_missing_gpu_is_reported(pixels):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="finds no GPU"):
        tiny_featurizer(device="cuda").fit(pixels)


def test_a_model_from_a_machine_with_a_gpu_computes_on_the_cpu(pixels):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    featurizer = tiny_featurizer(device="cpu").fit(pixels)
    expected = featurizer.transform(pixels)
    loaded = pickle.loads(pickle.dumps(featurizer.set_params(device="cuda:0")))
    with pytest.warns(DeviceWarning, match=r"set to device='cuda:0', but torch finds no GPU"):
        assert np.array_equal(loaded.transform(pixels), expected)


def test_unavailable_imagenet_weights_are_never_replaced_by_random_ones(pixels):
    with pytest.raises(WeightsNotFoundError, match="weights=None for random weights"):
        EfficientNetFeaturizer(training=None).fit(pixels)


def test_weights_of_another_architecture_are_refused(pixels, tmp_path):
    torch.save(TinyNet().state_dict(), tmp_path / "tiny.pth")
    with pytest.raises(WeightsMismatchError, match="another architecture"):
        ImageFeaturizer("resnet18", weights=tmp_path / "tiny.pth", training=None).fit(pixels)


def test_efficientnet_featurizer_takes_only_its_family(pixels):
    with pytest.raises(UnknownBackboneError, match="is not an EfficientNet"):
        EfficientNetFeaturizer("resnet18", weights=None, training=None).fit(pixels)
    featurizer = build_featurizer("efficientnet_v2_s", weights=None, fine_tune=False, image_size=32)
    assert featurizer.fit(ImageSequence(np.zeros((1, 450, 450), np.uint8))).spec_.n_features == 1280


def test_fit_checks_the_form_of_the_images():
    with pytest.raises(UnsupportedInputError, match="one str"):
        tiny_featurizer().fit("cells/")


def test_small_images_are_padded_with_one_warning(pixels, recwarn):
    featurizer = tiny_featurizer(crop_size=64).fit(pixels)
    featurizer.transform(pixels)
    assert {str(w.message)[:42] for w in recwarn} == {"images smaller than crop_size=64 x 64 are "}


def test_tags_describe_the_accepted_input():
    tags = tiny_featurizer().__sklearn_tags__()
    assert tags.input_tags.three_d_array
    assert not tags.input_tags.two_d_array
    assert tiny_featurizer(image_shape=(4, 4)).__sklearn_tags__().input_tags.two_d_array


def test_the_mean_over_eight_views_does_not_depend_on_the_orientation(pixels):
    pixels = pixels[:, :24, :24]  # a size that needs no resizing, which rounds
    featurizer = tiny_featurizer(views="dihedral").fit(pixels)
    upright = featurizer.transform(pixels[:4])
    for turned in (pixels[:4, ::-1], pixels[:4].transpose(0, 2, 1, 3)):
        np.testing.assert_allclose(featurizer.transform(turned), upright, rtol=1e-4, atol=1e-6)
    original = tiny_featurizer().fit(pixels)
    sides = pixels[:4], pixels[:4, :, ::-1]
    views = [np.rot90(side, k, (1, 2)) for side in sides for k in range(4)]
    expected = np.mean([original.transform(np.ascontiguousarray(view)) for view in views], axis=0)
    np.testing.assert_allclose(upright, expected, rtol=1e-4, atol=1e-6)
    rotated = tiny_featurizer(views="rotations").fit(pixels)
    expected = np.mean([original.transform(np.ascontiguousarray(v)) for v in views[:4]], axis=0)
    np.testing.assert_allclose(rotated.transform(pixels[:4]), expected, rtol=1e-4, atol=1e-6)


def test_views_and_extra_features_have_their_own_cache_entries(pixels, tmp_path):
    settings = [{}, {"views": "dihedral"}, {"extra_features": "stages"}]
    plain = [tiny_featurizer(**params).fit(pixels).transform(pixels[:5]) for params in settings]
    for _ in range(2):
        for params, expected in zip(settings, plain, strict=True):
            kept = tiny_featurizer(cache=tmp_path, **params).fit(pixels)
            np.testing.assert_array_equal(kept.transform(pixels[:5]), expected)
    assert len(Cache(tmp_path)) == 15


def test_extra_features_follow_the_own_ones_and_survive_a_pickle(pixels):
    plain = tiny_featurizer().fit(pixels).transform(pixels)
    featurizer = tiny_featurizer(extra_features=((-3, "avg"), (-1, "max"))).fit(pixels)
    features = featurizer.transform(pixels)
    assert features.shape == (24, 8 + 6 + 8)
    assert len(featurizer.get_feature_names_out()) == 22
    np.testing.assert_allclose(features[:, :8], plain, rtol=1e-5)
    copy = pickle.loads(pickle.dumps(featurizer))
    np.testing.assert_array_equal(copy.transform(pixels), features)


def test_extra_features_alone_are_those_that_follow_the_own_ones(pixels, tmp_path):
    params = {"extra_features": ((-3, "avg"), (-1, "max")), "cache": tmp_path}
    both = tiny_featurizer(**params).fit(pixels).transform(pixels)
    featurizer = tiny_featurizer(features=None, **params).fit(pixels)
    alone = featurizer.transform(pixels)
    np.testing.assert_allclose(alone, both[:, 8:], rtol=1e-5)
    assert len(featurizer.get_feature_names_out()) == 14
    copy = pickle.loads(pickle.dumps(featurizer))
    np.testing.assert_array_equal(copy.transform(pixels), alone)


def test_a_network_without_earlier_stages_keeps_its_features(pixels):
    def one_stage():
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        )

    featurizer = tiny_featurizer(backbone=one_stage, features=None, extra_features="stages")
    assert featurizer.fit(pixels).transform(pixels).shape == (24, 4)


@pytest.mark.parametrize("params", [{}, {"extra_features": "stages", "fine_tune": True}])
def test_no_features_at_all_and_training_without_own_features_are_refused(pixels, params):
    with pytest.raises(ValueError, match="features=None uses `extra_features` alone; it requires"):
        tiny_featurizer(features=None, **params).fit(pixels, np.arange(24) % 2)


@pytest.mark.parametrize("extra", [((-1, "median"),), ((-1,),), (("last", "avg"),)])
def test_extra_features_that_are_none_are_refused(pixels, extra):
    with pytest.raises(ValueError, match="pairs of a stage and a pooling"):
        tiny_featurizer(extra_features=extra).fit(pixels)


@pytest.mark.parametrize(
    "change",
    [{"stain": "macenko"}, {"stain": "reinhard"}, {"foreground": True}, {"foreground": "masked"}],
)
def test_stain_and_foreground_reach_the_features_and_the_key_of_the_cache(change, tmp_path):
    X = make_blood_cells(2, 4, image_size=64, random_state=0).images
    plain = tiny_featurizer(cache=tmp_path).fit(X)
    usual = plain.transform(X)
    featurizer = tiny_featurizer(cache=tmp_path, **change).fit(X)
    features = featurizer.transform(X)
    assert len(Cache(tmp_path)) == 16
    assert not np.isclose(features, usual, rtol=1e-3).all(axis=1).any()
    # 24 pixels, as the network takes them: the transform has nothing left to do.
    seen = ImageSequence([np.asarray(featurizer.transform_.prepare(Image.fromarray(x))) for x in X])
    np.testing.assert_array_equal(plain.transform(seen), features)


def test_stain_jitter_reaches_training(pixels):
    y = ["ALL", "HEM"] * 12
    settings = {"fine_tune": True, "max_epochs": 1, "batch_size": 8}
    off, on = (
        tiny_featurizer(**settings, augmentation=Augmentation(stain_jitter=jitter)).fit(pixels, y)
        for jitter in (0.0, 0.2)
    )
    usual = tiny_featurizer(**settings).fit(pixels, y).transform(pixels)
    assert np.array_equal(off.transform(pixels), usual)
    assert not np.array_equal(on.transform(pixels), usual)
