import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

import effboost
from common.networks import TinyNet, tiny_featurizer
from effboost import CNNClassifier, HybridClassifier
from effboost._utils.refusal import RefusedError
from effboost.exceptions import ModelFileError
from effboost.persistence._summary import _summarize


@pytest.fixture
def hybrid(pixels, three_classes):
    head = XGBClassifier(n_estimators=2, max_depth=3)
    return HybridClassifier(tiny_featurizer(), head, random_state=0).fit(pixels, three_classes)


def test_a_hybrid_is_described(hybrid, tmp_path):
    path = effboost.save(hybrid, tmp_path / "m.effboost")
    found = effboost.describe_model(path)
    assert json.loads(json.dumps(found)) == found
    assert found["kind"] == "HybridClassifier"
    assert found["classes"] == ["blast", "healthy", "other"]
    assert found["features"] == 8
    assert found["image"]["image_size"] == 24
    assert found["heads"] == ["XGBClassifier"]
    assert found["backbone"] == TinyNet.__name__
    assert found["parameters"]["classifier__max_depth"] == 3
    assert found["parameters"]["featurizer__training"] is None
    assert found["parameters"]["random_state"] == 0
    assert found["bytes"] == path.stat().st_size >= sum(found["members"].values())


def test_other_heads_and_other_models_are_described(hybrid, pixels, three_classes, tmp_path):
    linear = HybridClassifier(tiny_featurizer(), LogisticRegression()).fit(pixels, three_classes)
    found = effboost.describe_model(effboost.save(linear, tmp_path / "linear.effboost"))
    assert found["heads"] == ["scikit-learn"]
    featurizer = effboost.save(hybrid.featurizer_, tmp_path / "featurizer.effboost")
    found = effboost.describe_model(featurizer)
    assert (found["kind"], found["heads"], found["classes"]) == ("ImageFeaturizer", None, None)
    assert found["parameters"]["transform__image_size"] == 24
    cnn = CNNClassifier(tiny_featurizer(fine_tune=True, max_epochs=1)).fit(pixels, three_classes)
    found = effboost.describe_model(effboost.save(cnn, tmp_path / "cnn.effboost"))
    assert found["classes"] == ["blast", "healthy", "other"]
    assert found["epochs"] == 1


def test_other_files_are_refused(tmp_path):
    for name in ("a.effboost", "a.onnx"):
        (tmp_path / name).write_bytes(b"\x80\x04nothing")
        with pytest.raises(ModelFileError, match=name):
            effboost.describe_model(tmp_path / name)
    with pytest.raises(ModelFileError, match="is not a regular file"):
        effboost.describe_model(tmp_path)
    with pytest.raises(FileNotFoundError):
        effboost.describe_model(tmp_path / "gone.effboost")


KEYS = (
    "params featurizer_ heads classes backbone transform history boosters classifier_ kind spec "
    "name array dict"
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=6)
    ),
    max_leaves=20,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["featurizer_", "heads", "params", "classes"]), JSON))
def test_any_manifest_is_described_or_refused(model):
    """Only loading checks a manifest completely: here it may be refused, and nothing may fail."""
    manifest = {"kind": "HybridClassifier", "version": 1, "model": model, "made_with": {}}
    with contextlib.suppress(RefusedError):
        json.dumps(_summarize(manifest, {}))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_described_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "a.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ModelFileError):
        effboost.describe_model(path)
