import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import LRScheduler
from xgboost import XGBClassifier, XGBRFClassifier

import effboost
from common.model_files import read_members
from common.networks import TinyNet, tiny_featurizer
from effboost import (
    Augmentation,
    Cache,
    CNNClassifier,
    HybridClassifier,
    ImageFeaturizer,
    ImageTransform,
    LinearBoostedClassifier,
)
from effboost._featurizer_keywords import build_featurizer
from effboost.backbones import BackboneSpec
from effboost.exceptions import DeviceWarning, ModelFileError, ModelFileWarning

GREY = np.zeros((1, 224, 224), dtype=np.uint8)
TUNED = {"fine_tune": True, "max_epochs": 1}


def same(value, other):
    """Return whether two fitted attributes are equal, to the bit."""
    if isinstance(value, np.ndarray):
        return value.dtype == other.dtype and np.array_equal(value, other)
    return value == other


def assert_same(model, again, images):
    assert type(again) is type(model)
    assert vars(again).keys() == vars(model).keys()
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        if hasattr(model, method):
            expected, found = getattr(model, method)(images), getattr(again, method)(images)
            assert found.dtype == expected.dtype
            assert np.array_equal(found, expected)
    for name in ("classes_", "history_", "evals_result_", "feature_means_"):
        if hasattr(model, name):
            assert same(getattr(model, name), getattr(again, name)), name


def reload(model, folder, **options):
    return effboost.load(effboost.save(model, folder / "model.effboost"), **options)


def stops_early(**params):
    return XGBClassifier(n_estimators=30, max_depth=2, early_stopping_rounds=2, n_jobs=1, **params)


@pytest.mark.parametrize(
    "make",
    [
        lambda booster: HybridClassifier(tiny_featurizer(), booster, random_state=0),
        lambda booster: HybridClassifier(tiny_featurizer(**TUNED), booster, random_state=0),
        lambda booster: HybridClassifier(
            tiny_featurizer(**TUNED, features="logits", early_stopping=2), stops_early()
        ),
        lambda booster: CNNClassifier(tiny_featurizer(**TUNED), random_state=0),
        lambda booster: CNNClassifier(tiny_featurizer(**TUNED, features="logits")),
        lambda booster: tiny_featurizer(),
        lambda booster: tiny_featurizer(**TUNED, normalize="imagenet", crop_size=32),
    ],
    ids=["frozen", "tuned", "early", "cnn", "cnn logits", "featurizer", "tuned featurizer"],
)
def test_a_loaded_model_is_the_same_to_the_bit(make, booster, pixels, three_classes, tmp_path):
    model = make(booster).fit(pixels, three_classes)
    again = reload(model, tmp_path, backbone=TinyNet)
    assert_same(model, again, pixels)
    assert repr(again.get_params()) == repr(model.get_params())
    if hasattr(model, "cnn_"):
        assert again.cnn_.featurizer_ is again.featurizer_
        assert np.array_equal(again.cnn_.predict_proba(pixels), model.cnn_.predict_proba(pixels))
    if hasattr(model, "classifier_") and model.classifier_.early_stopping_rounds:
        assert again.classifier_.best_iteration == model.classifier_.best_iteration < 29


@pytest.mark.parametrize(
    "head",
    [
        LogisticRegression(),
        RidgeClassifier(),
        make_pipeline(StandardScaler(), SVC(random_state=0)),
        SVC(kernel="poly", decision_function_shape="ovo"),
        GaussianNB(),
        LinearDiscriminantAnalysis(),
        MLPClassifier((4,), max_iter=3, random_state=np.random.RandomState(0)),
        RandomForestClassifier(n_estimators=3, random_state=0),
        AdaBoostClassifier(n_estimators=2),
        BaggingClassifier(XGBClassifier(n_estimators=2, n_jobs=1), n_estimators=2),
        StackingClassifier([("nb", GaussianNB()), ("lr", LogisticRegression())], cv=2),
        make_pipeline(SelectKBest(k=3), MinMaxScaler(), LogisticRegression()),
        VotingClassifier(
            [("tree", DecisionTreeClassifier(max_depth=2)), ("nb", GaussianNB())], voting="soft"
        ),
        XGBRFClassifier(n_estimators=3, n_jobs=1),
        XGBClassifier(n_estimators=3, booster="dart", rate_drop=0.5, n_jobs=1),
        XGBClassifier(n_estimators=3, tree_method="exact", gamma=1, n_jobs=1),
    ],
    ids=lambda head: type(head).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:saved without random_state")
def test_heads_of_scikit_learn_and_xgboost_are_restored(head, pixels, three_classes, tmp_path):
    model = HybridClassifier(tiny_featurizer(), head).fit(pixels, three_classes)
    again = reload(model, tmp_path, backbone=TinyNet)
    assert_same(model, again, pixels)
    assert type(again.classifier) is type(head)


@pytest.mark.parametrize("method", ["temperature", "sigmoid", "isotonic"])
def test_boosters_inside_of_compositions_are_restored(
    method, voting, pixels, three_classes, tmp_path
):
    head = CalibratedClassifierCV(voting, method=method, cv=2)
    model = HybridClassifier(tiny_featurizer(), head).fit(pixels, three_classes)
    path = effboost.save(model, tmp_path / "model.effboost")
    again = effboost.load(path, backbone=TinyNet)
    assert_same(model, again, pixels)
    names = set(read_members(path.read_bytes())[1])
    assert "heads.skops" in names
    # Two folds of one booster each; the unfitted ones are parameters alone.
    assert sum(name.endswith(".ubj") for name in names) == 2


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(24) % 2,
        np.arange(24) % 2 == 0,
        np.array(["é", "b"])[np.arange(24) % 2],
        np.arange(24, dtype=np.uint8) % 3 * 7,
        np.arange(24) % 2 + 0.5 - 0.5,
    ],
    ids=["int", "bool", "str", "uint8", "float"],
)
def test_labels_keep_their_type(labels, booster, pixels, tmp_path):
    model = HybridClassifier(tiny_featurizer(), booster).fit(pixels, labels)
    assert_same(model, reload(model, tmp_path, backbone=TinyNet), pixels)


def test_networks_of_torchvision_only_need_the_file(pixels, three_classes, tmp_path):
    narrow = BackboneSpec("mobilenet_v2", weights=None, options=(("width_mult", 0.1),))
    featurizer = ImageFeaturizer(
        narrow,
        weights=None,
        training=None,
        transform=ImageTransform(crop_size=None, image_size=32),
        runtime="torch",
    )
    again = reload(featurizer.fit(pixels), tmp_path)
    assert again.backbone == narrow
    assert np.array_equal(again.transform(pixels), featurizer.transform(pixels))


@pytest.mark.parametrize("name", ["regnet_y_400mf", "mnasnet0_5", "googlenet", "efficientnet_b0"])
def test_networks_with_special_builders_are_restored(name, pixels, tmp_path):
    featurizer = build_featurizer(
        name, weights=None, fine_tune=False, crop_size=None, image_size=75, runtime="torch"
    ).fit(pixels[:2])
    state = torch.random.get_rng_state()
    again = reload(featurizer, tmp_path)
    assert np.array_equal(again.transform(pixels[:2]), featurizer.transform(pixels[:2]))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.slow
def test_another_process_predicts_the_same_bits(tmp_path):
    golden = Path(__file__).parent / "golden" / "format-1-voting.effboost"
    code = (
        "import sys, numpy, effboost\n"
        "X = numpy.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=numpy.uint8)\n"
        "numpy.save(sys.argv[2], effboost.load(sys.argv[1]).predict_proba(X))"
    )
    # Not this process: what other tests have loaded may flush its smallest numbers to zero.
    for name in ("one.npy", "other.npy"):
        subprocess.run([sys.executable, "-c", code, golden, tmp_path / name], check=True)
    assert np.array_equal(np.load(tmp_path / "one.npy"), np.load(tmp_path / "other.npy"))


def test_the_same_model_gives_the_same_bytes(hybrid, tmp_path):
    first = effboost.save(hybrid, tmp_path / "a.effboost").read_bytes()
    assert effboost.save(hybrid, tmp_path / "b.effboost").read_bytes() == first
    again = effboost.load(tmp_path / "a.effboost", backbone=TinyNet)
    assert effboost.save(again, tmp_path / "c.effboost").read_bytes() == first


def test_seen_columns_and_output_formats_are_restored(booster, pixels, tmp_path):
    import pandas as pd

    table = pd.DataFrame(pixels.reshape(24, -1), columns=[f"p{i}" for i in range(4800)])
    featurizer = tiny_featurizer(image_shape=(40, 40, 3))
    model = HybridClassifier(featurizer, booster).fit(table, np.arange(24) % 2)
    again = reload(model.set_output(transform="pandas"), tmp_path, backbone=TinyNet)
    assert again.n_features_in_ == 4800
    assert list(again.featurizer_.feature_names_in_) == list(table.columns)
    pd.testing.assert_frame_equal(again.transform(table), model.transform(table))


def test_a_loaded_model_can_be_fitted_again(hybrid, pixels, three_classes, tmp_path):
    again = reload(hybrid, tmp_path, backbone=TinyNet).fit(pixels, three_classes)
    assert_same(hybrid, again, pixels)


@pytest.mark.parametrize("device", ["cuda", torch.device("cuda:0")])
def test_a_model_of_a_gpu_computes_on_the_cpu_without_one(device, hybrid, pixels, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    expected = hybrid.predict_proba(pixels)
    hybrid.featurizer_.device = device
    again = reload(hybrid, tmp_path, backbone=TinyNet)
    assert again.featurizer_.device == str(device)
    with pytest.warns(DeviceWarning, match="computes on the CPU"):
        assert np.array_equal(again.predict_proba(pixels), expected)
    on_cpu = reload(hybrid, tmp_path, backbone=TinyNet, device="cpu")
    assert np.array_equal(on_cpu.predict_proba(pixels), expected)


def test_an_unknown_device_is_refused(saved):
    with pytest.raises(ValueError, match="not a torch device"):
        effboost.load(saved, backbone=TinyNet, device="tpu-9")


class Own(Augmentation):
    pass


class OwnOptimizer(torch.optim.SGD):
    pass


def parameter(featurizer, name):
    """Return a parameter of a featurizer or of its training."""
    params = featurizer.get_params()
    return params[name] if name in params else params[f"training__{name}"]


@pytest.mark.parametrize(
    ("name", "value", "default"),
    [
        ("callbacks", [LRScheduler("StepLR", step_size=1)], None),
        ("optimizer", OwnOptimizer, "adamax"),
        ("augmentation", Own(rotation=3), "paper"),
        ("random_state", np.random.RandomState(0), None),
    ],
)
def test_code_for_training_is_not_saved_with_a_warning(
    name, value, default, pixels, three_classes, tmp_path
):
    model = tiny_featurizer(**TUNED | {name: value}).fit(pixels, three_classes)
    with pytest.warns(ModelFileWarning, match=f"without {name}: code and random"):
        again = reload(model, tmp_path, backbone=TinyNet)
    assert parameter(again, name) == default
    assert np.array_equal(again.transform(pixels), model.transform(pixels))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer", torch.optim.RAdam),
        ("augmentation", Augmentation(rotation=3, n_views=2)),
        ("class_weight", {"blast": 2.0, "healthy": 1, "other": np.float32(0.5)}),
        ("lr", (1e-3, 1e-4, 1e-2)),
        ("weights", Path("somewhere/weights.pth")),
        ("random_state", np.int64(7)),
    ],
)
def test_parameters_keep_their_type(name, value, pixels, tmp_path):
    place = name if name in ("weights", "random_state") else f"training__{name}"
    model = tiny_featurizer().fit(pixels).set_params(training="paper")
    model.set_params(**{place: value})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = reload(model, tmp_path, backbone=TinyNet)
    assert type(parameter(again, name)) is type(value)
    assert parameter(again, name) == value


def test_the_cache_is_not_saved(pixels, tmp_path):
    featurizer = tiny_featurizer(cache=Cache(tmp_path / "cache")).fit(pixels)
    path = effboost.save(featurizer, tmp_path / "model.effboost")
    assert b"cache" not in path.read_bytes()
    assert effboost.load(path, backbone=TinyNet).cache is None


def test_custom_networks_are_built_by_the_given_backbone(pixels, tmp_path):
    spec = BackboneSpec("mine", factory=TinyNet, mean=(0.1, 0.2, 0.3))
    featurizer = tiny_featurizer(backbone=spec, normalize="backbone").fit(pixels)
    path = effboost.save(featurizer, tmp_path / "model.effboost")
    with pytest.raises(ModelFileError, match=r"'mine' was built by custom code"):
        effboost.load(path)
    for backbone in (TinyNet, spec):
        again = effboost.load(path, backbone=backbone)
        assert again.spec_ == spec
        assert np.array_equal(again.transform(pixels), featurizer.transform(pixels))
    with pytest.raises(ModelFileError, match=r"mean.*now give"):
        effboost.load(path, backbone=BackboneSpec("mine", factory=TinyNet))
    with pytest.raises(ModelFileError, match=r"which the network does not have"):
        effboost.load(path, backbone=lambda: torch.nn.Sequential(torch.nn.Linear(3, 3)))


def test_an_unneeded_backbone_is_refused():
    golden = Path(__file__).parent / "golden" / "format-1-cnn.effboost"
    with pytest.raises(ModelFileError, match="torchvision's 'mobilenet_v2'; leave out backbone"):
        effboost.load(golden, backbone=TinyNet)


class OwnFeaturizer(ImageFeaturizer):
    pass


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (LogisticRegression().fit([[0], [1]], [0, 1]), "_logistic.LogisticRegression"),
        ({"a": 1}, "builtins.dict"),
        (OwnFeaturizer(TinyNet, weights=None, training=None).fit(GREY), "OwnFeaturizer"),
    ],
)
def test_other_models_are_refused_by_name(model, name, tmp_path):
    with pytest.raises(ModelFileError, match=f"{name} cannot be saved.*joblib"):
        effboost.save(model, tmp_path / "model.effboost")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            KNeighborsClassifier(3),
            r"a 'sklearn\.neighbors\S+KNeighborsClassifier'.*joblib",
        ),
        (
            make_pipeline(FunctionTransformer(np.abs), LogisticRegression()),
            "FunctionTransformer",
        ),
        (XGBClassifier(objective=lambda y, p: (p - y, p), n_jobs=1), "a custom objective"),
    ],
)
def test_other_heads_are_refused_by_name(head, message, hybrid, tmp_path):
    if isinstance(head, XGBClassifier):
        hybrid.classifier = head
    else:
        hybrid.classifier_ = head.fit(np.eye(6), [0, 1, 2] * 2)
    with pytest.raises(ModelFileError, match=message):
        effboost.save(hybrid, tmp_path / "model.effboost")
    assert not list(tmp_path.iterdir())


def test_models_that_are_not_fitted_are_refused(tmp_path):
    with pytest.raises(NotFittedError):
        effboost.save(HybridClassifier(), tmp_path / "model.effboost")


def test_parameters_that_were_changed_after_fit_are_refused(hybrid, tmp_path):
    hybrid.featurizer_.set_params(transform__crop_size=30)
    with pytest.raises(ModelFileError, match="changed after fit; fit it again"):
        effboost.save(hybrid, tmp_path / "model.effboost")


def test_without_skops_the_error_names_the_extra(voting, hybrid, tmp_path, monkeypatch):
    hybrid.classifier = voting
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(effboost.exceptions.MissingDependencyError, match=r"effboost\[persist\]"):
        effboost.save(hybrid, tmp_path / "model.effboost")


def test_the_recommended_hybrid_is_restored(pixels, three_classes, tmp_path):
    featurizer = tiny_featurizer(
        **TUNED, views="dihedral", extra_features="stages", schedule="cosine"
    )
    clf = HybridClassifier(featurizer, LinearBoostedClassifier(), random_state=0)
    clf.fit(pixels, three_classes)
    again = reload(clf, tmp_path, backbone=TinyNet)
    assert_same(clf, again, pixels)
    assert again.featurizer.training.schedule == "cosine"


def test_a_random_state_that_is_left_out_is_told(pixels, three_classes, tmp_path):
    clf = HybridClassifier(
        tiny_featurizer(), LogisticRegression(random_state=np.random.RandomState(0))
    )
    clf.fit(pixels, three_classes)
    with pytest.warns(ModelFileWarning, match="saved without random_state"):
        effboost.save(clf, tmp_path / "model.effboost")
