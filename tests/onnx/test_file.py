import contextlib
import json
import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnx
from common.exported import tiny_file, tiny_hybrid
from effboost import ImageTransform, OnnxClassifier
from effboost._utils.refusal import RefusedError
from effboost.exceptions import ModelFileError
from effboost.onnx._file import check_plain, describe, read_description
from effboost.onnx._model import OnnxModel
from onnx import TensorProto, helper


def edited(edit):
    """Give the exported file after an attack on it."""
    model = onnx.load_from_string(tiny_file())
    edit(model)
    return model.SerializeToString()


def first_tensor(model):
    return model.graph.initializer[0]


def point_outside(model):
    tensor = first_tensor(model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def point_outside_in_a_constant(model):
    tensor = next(
        n for n in model.graph.node if n.op_type == "Constant" and n.attribute[0].HasField("t")
    )
    tensor.attribute[0].t.external_data.add(key="location", value="passwd")


def call_outside_without_naming_a_file(model):
    first_tensor(model).data_location = TensorProto.EXTERNAL


def branch_of(model):
    return next(n for n in model.graph.node if n.op_type == "If").attribute[0].g


def point_outside_in_a_branch(model):
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [0.0])
    tensor.external_data.add(key="location", value="passwd")
    branch_of(model).initializer.append(tensor)


def need_foreign_operators(model):
    model.graph.node[0].domain = "com.evil"


def need_foreign_operators_in_a_branch(model):
    next(n for n in model.graph.node if n.op_type == "If").attribute[0].g.node[
        0
    ].domain = "com.evil"


def define_functions(model):
    model.functions.add(name="f", domain="")


def hold_a_sparse_tensor(model):
    sparse = model.graph.sparse_initializer.add(dims=[10**9, 10**9])
    sparse.values.CopyFrom(helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]))


def declare_a_huge_tensor(model):
    tensor = model.graph.initializer.add(name="huge", data_type=TensorProto.FLOAT)
    tensor.dims.extend([10**6, 10**6])


def declare_a_tensor_of_negative_size(model):
    model.graph.initializer.add(name="odd", data_type=TensorProto.FLOAT).dims.extend([-1])


def nest_graphs(model):
    graph = model.graph
    for _ in range(30):
        attribute = graph.node.add(op_type="If").attribute.add(name="then_branch")
        attribute.type = onnx.AttributeProto.GRAPH
        graph = attribute.g
        graph.name = "deep"


def train(model):
    model.training_info.add()


ATTACKS = {
    point_outside: "data that lie in another file",
    point_outside_in_a_constant: "data that lie in another file",
    call_outside_without_naming_a_file: "data that lie in another file",
    point_outside_in_a_branch: "data that lie in another file",
    need_foreign_operators: "operators of b'com.evil'",
    need_foreign_operators_in_a_branch: "operators of b'com.evil'",
    define_functions: "functions of its own",
    hold_a_sparse_tensor: "sparse tensors",
    declare_a_huge_tensor: "declares a tensor of 1,000,000,000,000 values",
    declare_a_tensor_of_negative_size: "declares a tensor of",
    nest_graphs: "too deep",
    train: "training steps",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_files_that_hold_more_than_an_export_are_refused_before_they_are_loaded(
    attack, monkeypatch
):
    monkeypatch.setattr("effboost.onnx._model.start_session", pytest.fail)
    content = edited(attack)
    with pytest.raises(RefusedError, match=ATTACKS[attack]):
        check_plain(content)
    with pytest.raises(ModelFileError, match=ATTACKS[attack]):
        OnnxModel("model.onnx", content)


def test_the_exported_file_itself_is_plain():
    check_plain(tiny_file())


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x04N.", pickle.dumps({"a": 1}), b"PK\x03\x04" + bytes(100), b"\xff" * 100],
    ids=["empty", "pickle", "pickled dict", "zip", "ones"],
)
def test_files_that_are_no_onnx_are_refused_by_name(content, tmp_path):
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


def test_text_that_is_none_is_refused_in_silence(capfd):
    content = tiny_file().replace(b'"crop_size"', b'"\xffrop_size"')
    with pytest.raises(ModelFileError, match=r"'model\.onnx': .*utf-8"):
        OnnxModel("model.onnx", content)
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_fails_on_an_image_is_one_error(capfd):
    def edit(model):
        (trees,) = (n for n in model.graph.node if n.op_type == "TreeEnsembleClassifier")
        (numbers,) = (a for a in trees.attribute if a.name == "nodes_featureids")
        numbers.ints[:] = [10**9] * len(numbers.ints)

    model = OnnxModel("model.onnx", edited(edit))
    with pytest.raises(ModelFileError, match=r"'model\.onnx': cannot be run"):
        model.run(np.zeros((40, 40, 3), dtype=np.uint8))
    assert capfd.readouterr() == ("", "")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_by_one_error(content):
    with contextlib.suppress(RefusedError):
        check_plain(content)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_a_flipped_bit_is_read_or_refused_by_one_error(position, bit):
    content = bytearray(tiny_file())
    content[position % len(content)] ^= 1 << bit
    with contextlib.suppress(ModelFileError):
        assert len(OnnxModel("model.onnx", bytes(content)).classes) == 3


def test_large_files_are_checked_in_no_time():
    tensor = onnx.numpy_helper.from_array(np.zeros((5000, 5000), np.float32), "weights")
    graph = helper.make_graph([], "g", [], [], [tensor])
    content = helper.make_model(graph).SerializeToString()
    start = time.perf_counter()
    check_plain(content)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"effboost_format": None}, "was not exported by effboost: .*export_onnx"),
        ({"effboost_format": "2"}, "has format '2', this effboost reads format 1"),
        ({"classes": None}, "damaged metadata"),
        ({"classes": "[1, 2"}, "damaged metadata"),
        ({"classes": '["a", "a", "b"]'}, "damaged metadata"),
        ({"classes": '["a"]'}, "damaged metadata"),
        ({"classes": "[" * 100_000}, "damaged metadata"),
        ({"classes": '["a", "b"]'}, "gives the probabilities of its 2 classes"),
        ({"classes_dtype": "V1000000000"}, "damaged metadata"),
        ({"image_shape": "[1e9]"}, "damaged metadata"),
        ({"image_shape": "7"}, "damaged metadata"),
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


def test_a_graph_that_takes_something_else_is_refused(tmp_path):
    def edit(model):
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT

    path = tmp_path / "model.onnx"
    path.write_bytes(edited(edit))
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        OnnxClassifier(path).classes_  # noqa: B018


@pytest.mark.parametrize(
    "classes",
    [["ALL", "HEM"], [3, 7], [False, True], [0.5, 2.0], np.array(["ä", "b"], dtype=object)],
)
def test_classes_come_back_as_they_were(classes):
    classes = np.asarray(classes)
    got, shape = read_description(describe(classes, ImageTransform(), (8, 9, 3)))
    np.testing.assert_array_equal(got, classes)
    assert got.dtype == classes.dtype
    assert shape == (8, 9, 3)


def test_the_file_says_where_it_comes_from():
    model = onnx.load_from_string(tiny_file())
    metadata = {p.key: p.value for p in model.metadata_props}
    assert json.loads(metadata["classes"]) == tiny_hybrid().classes_.tolist()
    assert json.loads(metadata["transform"])["crop_size"] == 36
    assert metadata["effboost_format"] == "1"
    assert metadata["effboost_version"] == model.producer_version != ""
