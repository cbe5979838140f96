import contextlib
import json
import os
import pickle
import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import effboost
import onnx
from common.exported import edited, tiny_file, tiny_hybrid
from effboost import ImageTransform, OnnxClassifier
from effboost.exceptions import ImageDecodeError, ModelFileError
from effboost.onnx._file import describe, read_description
from effboost.onnx._model import OnnxModel
from onnx import TensorProto, helper


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x04N.", pickle.dumps({"a": 1}), b"PK\x03\x04" + bytes(100), b"\xff" * 100],
    ids=["empty", "pickle", "pickled dict", "zip", "ones"],
)
def test_other_files_are_refused_by_name(content, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        OnnxClassifier(path).predict_proba([np.zeros((40, 40, 3), dtype=np.uint8)])


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_truncated_files_are_refused(share, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_file()[: int(len(tiny_file()) * share)])
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        OnnxClassifier(path).classes_  # noqa: B018


@pytest.mark.parametrize(
    "read", [lambda path: OnnxClassifier(path).classes_, effboost.describe_model]
)
def test_pipes_folders_and_huge_files_are_refused(read, tmp_path):
    """A pipe would wait for a writer, and a file of 10 GB of zeros would be read."""
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "folder.onnx").mkdir()
    for name, message in (("pipe", "not a regular file"), ("folder", "not a regular file")):
        with pytest.raises(ModelFileError, match=message):
            read(tmp_path / f"{name}.onnx")
    for size, message in ((10 * 2**30, "has 10,737,418,240 bytes"), (2**30, "is not an ONNX file")):
        with (tmp_path / "sparse.onnx").open("wb") as file:
            file.truncate(size)
        with pytest.raises(ModelFileError, match=message):
            read(tmp_path / "sparse.onnx")


@pytest.mark.parametrize("start", [b"\x08", b"\x08\x0a", tiny_file, b"\x08\x0a" * 50_000])
def test_files_that_go_on_in_zeros_are_refused_unread(start, tmp_path):
    path = tmp_path / "sparse.onnx"
    with path.open("wb") as file:
        file.write(start() if callable(start) else start)
        file.truncate(2_000_000_000)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (lambda path: OnnxClassifier(path).classes_, effboost.describe_model):
        with pytest.raises(ModelFileError, match="is not an ONNX file, or is damaged"):
            read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000  # kilobytes


def scale_probabilities(model):
    """Multiply the probabilities by 3 before they leave the graph."""
    (last,) = (n for n in model.graph.node if "probabilities" in n.output)
    last.output[0] = "unscaled"
    model.graph.initializer.append(helper.make_tensor("factor", TensorProto.FLOAT, [1], [3.0]))
    model.graph.node.append(helper.make_node("Mul", ["unscaled", "factor"], ["probabilities"]))


def test_values_that_are_not_probabilities_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(edited(scale_probabilities))
    with pytest.raises(ImageDecodeError, match="its probabilities"):
        OnnxClassifier(path).predict([np.zeros((40, 40, 3), dtype=np.uint8)])


def test_text_that_is_not_utf_8_is_refused_without_output(capfd):
    content = tiny_file().replace(b'"crop_size"', b'"\xffrop_size"')
    with pytest.raises(ModelFileError, match=r"'model\.onnx': .*utf-8"):
        OnnxModel("model.onnx", content)
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_fails_on_an_image_raises_one_error(capfd):
    def edit(model):
        (trees,) = (n for n in model.graph.node if n.op_type == "TreeEnsembleClassifier")
        (numbers,) = (a for a in trees.attribute if a.name == "nodes_featureids")
        numbers.ints[:] = [10**9] * len(numbers.ints)

    model = OnnxModel("model.onnx", edited(edit))
    with pytest.raises(ModelFileError, match=r"'model\.onnx': cannot be run"):
        model.run(np.zeros((40, 40, 3), dtype=np.uint8))
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_a_flipped_bit_is_read_or_refused_by_one_error(position, bit):
    content = bytearray(tiny_file())
    content[position % len(content)] ^= 1 << bit
    with contextlib.suppress(ModelFileError):
        assert len(OnnxModel("model.onnx", bytes(content)).description.classes) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"effboost_format": None}, "was not exported by effboost; .*export_onnx"),
        ({"effboost_format": "2"}, "has format '2'; this effboost reads format 1"),
        ({"classes": None}, "damaged metadata"),
        ({"classes": "[1, 2"}, "damaged metadata"),
        ({"classes": '["a", "a", "b"]'}, "damaged metadata"),
        ({"classes": '["a"]'}, "damaged metadata"),
        ({"classes": '["b", "a", "c"]'}, "damaged metadata"),
        ({"classes": '["", "a", "b"]'}, "damaged metadata"),
        ({"classes": '["a", "b", "%s"]' % ("c" * 100_000)}, "damaged metadata"),
        ({"classes": "[" * 100_000}, "damaged metadata"),
        ({"classes": '["a", "b"]'}, "gives the probabilities of its 2 classes"),
        ({"classes_dtype": "V1000000000"}, "damaged metadata"),
        ({"classes": '["a", ["b"]]'}, "damaged metadata"),
        ({"classes": '["a", null]'}, "damaged metadata"),
        ({"classes": "[1, 100000000000000000000]", "classes_dtype": "int64"}, "damaged metadata"),
        ({"classes": "[true, 2]", "classes_dtype": "int64"}, "damaged metadata"),
        ({"classes": "[1.5, NaN]", "classes_dtype": "float64"}, "damaged metadata"),
        ({"image_shape": "[1e9]"}, "damaged metadata"),
        ({"image_shape": "[1000000000, 1000000000]"}, "damaged metadata"),
        ({"image_shape": "7"}, "damaged metadata"),
        ({"feature_names": '["a", "b"]'}, "damaged metadata"),
        ({"feature_names": '["a"]', "image_shape": "[2, 3]"}, "damaged metadata"),
        ({"feature_names": "[1, 2]", "image_shape": "[1, 2]"}, "damaged metadata"),
        ({"feature_names": '"ab"', "image_shape": "[1, 2]"}, "damaged metadata"),
    ],
)
def test_foreign_and_damaged_metadata_are_refused(change, message, tmp_path):
    def edit(model):
        metadata = {p.key: p.value for p in model.metadata_props} | change
        helper.set_model_props(model, {k: v for k, v in metadata.items() if v is not None})

    path = tmp_path / "model.onnx"
    path.write_bytes(edited(edit))
    with pytest.raises(ModelFileError, match=message) as error:
        OnnxClassifier(path).classes_  # noqa: B018
    assert str(error.value).startswith(repr(str(path)))


def test_a_graph_with_other_inputs_is_refused(tmp_path):
    def edit(model):
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT

    path = tmp_path / "model.onnx"
    path.write_bytes(edited(edit))
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        OnnxClassifier(path).classes_  # noqa: B018


@pytest.mark.parametrize(
    "classes",
    [["ALL", "HEM"], [3, 7], [False, True], [0.5, 2.0], np.array(["b", "ä"], dtype=object)],
)
def test_classes_keep_their_values_and_dtype(classes):
    classes = np.asarray(classes)
    got = read_description(describe(classes, ImageTransform(), (8, 9, 3)))
    np.testing.assert_array_equal(got.classes, classes)
    assert got.classes.dtype == classes.dtype
    assert got.image_shape == (8, 9, 3)
    assert got.feature_names is None


def test_the_metadata_describe_the_model():
    model = onnx.load_from_string(tiny_file())
    metadata = {p.key: p.value for p in model.metadata_props}
    assert json.loads(metadata["classes"]) == tiny_hybrid().classes_.tolist()
    assert json.loads(metadata["transform"])["crop_size"] == 36
    assert metadata["effboost_format"] == "1"
    assert metadata["effboost_version"] == model.producer_version != ""
