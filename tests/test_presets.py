import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold

from common.networks import TinyNet
from effboost import (
    EfficientNetFeaturizer,
    FineTuning,
    HybridClassifier,
    ImageFeaturizer,
    ImageTransform,
    LinearBoostedClassifier,
    OnnxClassifier,
    export_onnx,
    load,
    presets,
    save,
)
from effboost._training.config import OPTIMIZERS
from effboost.backbones import timm_spec

# Line by line what the paper says of its own system.
PAPER_FEATURIZER = {
    "backbone": "efficientnet_b0",
    "weights": "imagenet",
    "features": "pooled",
    "transform__crop_size": 448,
    "transform__image_size": 224,
    "transform__normalize": "unit",
    "transform__stain": None,
    "transform__foreground": False,
    "training__trainable": "all",
    "training__max_epochs": 5,
    "training__optimizer": "adamax",
    "training__lr": 1e-3,
    "training__batch_size": 40,
    "training__class_weight": None,
    "training__early_stopping": False,
    "training__minority_augmentation": None,
    "training__augmentation": "paper",
    "training__augmentation__horizontal_flip": 0.2,
    "training__augmentation__vertical_flip": 0.2,
    "training__augmentation__rotation": 10.0,
    "training__augmentation__n_views": 1,
    "training__augmentation__quarter_turns": False,
    "training__augmentation__stain_jitter": 0.0,
    "training__schedule": None,
    "training__regularization": None,
    "training__label_smoothing": 0.0,
    "training__weight_decay": None,
}


@pytest.mark.parametrize(
    "clf", [presets.paper(), HybridClassifier()], ids=["preset", "nothing set"]
)
def test_paper_preset_has_the_settings_of_the_paper_and_of_the_defaults(clf):
    params = clf.get_params()
    for name, value in PAPER_FEATURIZER.items():
        assert params[f"featurizer__{name}"] == value, name
    assert OPTIMIZERS[params["featurizer__training__optimizer"]] is torch.optim.Adamax
    assert params["classifier__learning_rate"] == 0.35
    assert params["classifier__tree_method"] == "hist"
    # The library's defaults, which mean 100 trees of depth 6.
    assert params["classifier__n_estimators"] is None
    assert params["classifier__max_depth"] is None
    assert params["head_protocol"] == "in_sample"
    assert params["class_weight"] is None
    assert params["calibration"] is None
    assert params["view_averaging"] == "features"


def test_paper_code_differs_from_paper_only_in_its_features():
    text, code = (preset().get_params(deep=False) for preset in (presets.paper, presets.paper_code))
    text, code = (params["featurizer"].get_params() for params in (text, code))
    changed = {name for name in text if repr(text[name]) != repr(code[name])}
    assert changed == {"features"}
    assert code["features"] == "logits"


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "width"), [(presets.paper, 1280), (presets.paper_code, 1000)])
def test_the_booster_gets_the_number_of_features_of_the_preset(pixels, preset, width):
    clf = preset(weights=None, crop_size=None, image_size=32, max_epochs=1, random_state=0)
    clf.set_params(classifier__n_estimators=2).fit(pixels[:6], ["ALL", "HEM"] * 3)
    assert clf.classifier_.n_features_in_ == width
    assert clf.cnn_.predict_proba(pixels).shape == (24, 2)


@pytest.mark.parametrize("backbone", ["vgg16", "resnet18", "inception_v3"])
def test_the_papers_other_networks_take_the_papers_settings(backbone):
    featurizer = presets.paper(backbone, weights=None, max_epochs=2).featurizer
    assert type(featurizer) is ImageFeaturizer
    assert (featurizer.backbone, featurizer.weights) == (backbone, None)
    assert featurizer.training == FineTuning(max_epochs=2)
    assert featurizer.get_params()["transform"] == "paper"


def test_frozen_crops_nothing_and_normalises_as_the_network_was_trained_with():
    clf = presets.frozen("mobilenet_v2", weights="w.pth", image_size=96, random_state=3)
    featurizer = clf.featurizer
    assert featurizer.training is None
    assert (featurizer.backbone, featurizer.weights) == ("mobilenet_v2", "w.pth")
    transform = featurizer.get_params()["transform"]
    assert transform == ImageTransform(None, 96, normalize="backbone")
    assert clf.random_state == 3
    other = presets.frozen(normalize="unit")
    assert other.get_params()["featurizer__transform__normalize"] == "unit"
    assert clf.set_params(classifier__max_depth=3).classifier.learning_rate == 0.35


def test_presets_give_a_new_model_each_time():
    assert presets.paper().featurizer is not presets.paper().featurizer
    assert isinstance(presets.paper().featurizer, EfficientNetFeaturizer)


@pytest.mark.slow
def test_frozen_classifies_images_of_any_size(pixels, three_classes):
    clf = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
    clf.set_params(classifier__n_estimators=5)
    sizes = [picture[: 20 + i % 3] for i, picture in enumerate(pixels)]
    assert clf.fit(sizes, three_classes).score(sizes, three_classes) > 0.9
    assert clf.predict(sizes).dtype == np.asarray(three_classes).dtype


def test_recommended_is_frozen_unless_fine_tune_is_set():
    params = presets.recommended("mobilenet_v2", weights="w.pth", image_size=96).get_params()
    assert params["featurizer__training"] is None
    assert params["featurizer__backbone"] == "mobilenet_v2"
    assert params["featurizer__weights"] == "w.pth"
    assert params["featurizer__transform__image_size"] == 96
    assert params["featurizer__transform__crop_size"] is None
    assert params["featurizer__transform__normalize"] == "backbone"
    assert params["featurizer__extra_features"] == "stages"
    assert params["featurizer__views"] == "rotations"
    assert params["featurizer__transform__foreground"] == "masked"
    assert params["featurizer__features"] is None
    assert params["view_averaging"] == "features"
    assert params["calibration"] is None
    assert isinstance(params["classifier"], LinearBoostedClassifier)


def test_recommended_sees_more_of_frozen_convolutional_networks():
    assert presets.recommended().featurizer.transform.image_size == 320
    for other in (
        presets.recommended(fine_tune=True),
        presets.recommended("timm/test_vit"),
        presets.recommended(timm_spec("test_vit")),
    ):
        assert other.featurizer.features == "pooled"
        assert other.featurizer.transform.image_size == 224
        assert other.featurizer.extra_features == "stages"


def test_recommended_tunes_with_care():
    params = presets.recommended("mobilenet_v2", fine_tune=True).get_params()
    assert params["featurizer__training__optimizer"] == "adamw"
    assert params["featurizer__training__lr"] == (1e-5, 1e-4, 1e-3)
    assert params["featurizer__training__regularization__weight_average"] == "ema"
    assert params["featurizer__training__schedule__warmup_fraction"] == 0.1
    assert params["featurizer__training__augmentation"].quarter_turns is True
    assert params["featurizer__training__augmentation"].stain_jitter == 0.2
    assert params["featurizer__training__freeze_batch_norm"] is True
    assert params["featurizer__training__trainable"] == 3
    assert params["calibration"] is None
    # Random weights know nothing worth keeping.
    bare = presets.recommended("mobilenet_v2", weights=None, fine_tune=True, max_epochs=3)
    training = bare.featurizer.training
    assert training.freeze_batch_norm is False
    assert training.trainable == "all"
    assert training.lr == 1e-3
    assert training.max_epochs == 3


@pytest.mark.slow
@pytest.mark.parametrize("fine_tune", [False, True])
def test_recommended_classifies_is_saved_and_exported(pixels, three_classes, tmp_path, fine_tune):
    clf = presets.recommended(
        "shufflenet_v2_x0_5", weights=None, fine_tune=fine_tune, image_size=32, random_state=0
    )
    if fine_tune:
        clf.set_params(featurizer__training__max_epochs=1, calibration="temperature")
    pixels = pixels[:, :32, :32]  # nothing is resized
    turned = np.rot90(pixels, axes=(1, 2)).copy()
    clf.fit(pixels, three_classes, groups=np.arange(24) // 2)
    expected = clf.predict_proba(pixels)
    assert np.array_equal(clf.predict(turned), clf.predict(pixels))
    save(clf, tmp_path / "model.effboost")
    loaded = load(tmp_path / "model.effboost")
    assert np.array_equal(loaded.predict_proba(pixels), expected)
    export_onnx(loaded, tmp_path / "model.onnx")
    exported = OnnxClassifier(tmp_path / "model.onnx").predict_proba(pixels)
    np.testing.assert_allclose(exported, expected, atol=1e-4)


PRESETS = {
    "paper": presets.paper,
    "paper_code": presets.paper_code,
    "frozen": presets.frozen,
    "recommended": presets.recommended,
    "recommended, tuned": lambda: presets.recommended(fine_tune=True),
    "nothing set": HybridClassifier,
}


@pytest.mark.parametrize("make", PRESETS.values(), ids=PRESETS)
def test_setting_all_parameters_to_their_values_changes_nothing(make):
    clf, shallow = make(), repr(make())
    clf.set_params(**clf.get_params())
    assert repr(clf) == shallow
    assert repr(clone(clf)) == repr(clone(make()))


@pytest.mark.parametrize("make", PRESETS.values(), ids=PRESETS)
def test_every_name_can_be_set(make):
    params = make().get_params()
    for name, value in params.items():
        clf = make().set_params(**{name: value})
        assert repr(clf.get_params()[name]) == repr(value), name


@pytest.mark.parametrize("make", PRESETS.values(), ids=PRESETS)
def test_a_wrong_name_leaves_the_estimator_as_it_was(make):
    clf = make()
    before = repr(clf.get_params())
    wrong = {"verbose": 3, "classifier__random_state": 7, "featurizer__transform__oops": 1}
    with pytest.raises(ValueError, match="Invalid parameter 'oops'"):
        clf.set_params(**wrong)
    assert repr(clf.get_params()) == before


def test_short_keywords_are_sent_where_they_live():
    clf = presets.paper(
        image_size=96, lr=1e-2, warmup_fraction=0.1, mixup_alpha=0.3, runtime="torch", verbose=1
    )
    params = clf.get_params()
    assert params["featurizer__transform__image_size"] == 96
    assert params["featurizer__training__lr"] == 1e-2
    assert params["featurizer__training__schedule__warmup_fraction"] == 0.1
    assert params["featurizer__training__regularization__mixup_alpha"] == 0.3
    assert params["featurizer__runtime"] == "torch"
    assert params["verbose"] == 1


@pytest.mark.parametrize("preset", [presets.paper, presets.frozen, presets.recommended])
def test_an_unknown_keyword_names_the_nearest(preset):
    with pytest.raises(TypeError, match=r"is not a parameter .* did you mean 'image_size'"):
        preset(imagesize=96)


@pytest.mark.parametrize("preset", [presets.frozen, presets.recommended])
def test_a_keyword_of_training_without_training_is_refused(preset):
    with pytest.raises(ValueError, match="max_epochs=3 has no effect: with fine_tune=False"):
        preset(max_epochs=3)


def test_a_search_reaches_training_augmentation_and_transform(
    pixels, three_classes, subjects, tmp_path
):
    clf = presets.paper(
        TinyNet,
        weights=None,
        crop_size=None,
        image_size=32,
        runtime="torch",
        max_epochs=1,
        batch_size=8,
        cache=tmp_path / "cache",
        random_state=0,
    ).set_params(classifier__n_estimators=2)
    grid = {
        "featurizer__training__lr": [1e-3, 1e-2],
        "featurizer__training__augmentation__rotation": [0, 10],
        "featurizer__transform__image_size": [24, 32],
    }
    search = GridSearchCV(clf, grid, cv=GroupKFold(2)).fit(pixels, three_classes, groups=subjects)
    assert len(search.cv_results_["params"]) == 8
    assert set(search.best_params_) == set(grid)
    assert search.best_estimator_.featurizer_.transform_.image_size in (24, 32)
