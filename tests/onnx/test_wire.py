"""ONNX files that are more than an export, or that readers read in different ways."""

import contextlib
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnx
from common.exported import edited, tiny_file
from effboost._utils.refusal import RefusedError
from effboost.exceptions import ModelFileError
from effboost.onnx._model import OnnxModel
from effboost.onnx._wire import read_metadata, read_plain
from onnx import TensorProto, helper


def first_tensor(model):
    return model.graph.initializer[0]


def store_data_in_another_file(model):
    tensor = first_tensor(model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def store_a_constant_in_another_file(model):
    tensor = next(
        n for n in model.graph.node if n.op_type == "Constant" and n.attribute[0].HasField("t")
    )
    tensor.attribute[0].t.external_data.add(key="location", value="passwd")


def say_that_data_is_elsewhere(model):
    first_tensor(model).data_location = TensorProto.EXTERNAL


def branch_of(model):
    return next(n for n in model.graph.node if n.op_type == "If").attribute[0].g


def store_data_of_a_branch_in_another_file(model):
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [0.0])
    tensor.external_data.add(key="location", value="passwd")
    branch_of(model).initializer.append(tensor)


def use_other_operators(model):
    model.graph.node[0].domain = "com.evil"


def use_other_operators_in_a_branch(model):
    next(n for n in model.graph.node if n.op_type == "If").attribute[0].g.node[
        0
    ].domain = "com.evil"


def define_functions(model):
    model.functions.add(name="f", domain="")


def use_a_sparse_tensor(model):
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


def leave_out_an_input(model):
    """onnxruntime reads address 0 for it."""
    next(n for n in model.graph.node if n.op_type == "Min").input[1] = ""


def leave_out_an_input_in_a_branch(model):
    nodes = branch_of(model).node
    nodes.add(op_type="Max", input=[nodes[0].output[0], ""], output=["most"])


ATTACKS = {
    leave_out_an_input: "operator Min without one of its inputs",
    leave_out_an_input_in_a_branch: "operator Max without one of its inputs",
    store_data_in_another_file: "data in another file",
    store_a_constant_in_another_file: "data in another file",
    say_that_data_is_elsewhere: "data in another file",
    store_data_of_a_branch_in_another_file: "data in another file",
    use_other_operators: "operators of b'com.evil'",
    use_other_operators_in_a_branch: "operators of b'com.evil'",
    define_functions: "functions of its own",
    use_a_sparse_tensor: "sparse tensors",
    declare_a_huge_tensor: "declares a tensor of 1,000,000,000,000 values",
    declare_a_tensor_of_negative_size: "declares a tensor of",
    nest_graphs: "too deep",
    train: "training steps",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_files_with_more_than_an_export_are_refused_before_the_runtime_reads_them(
    attack, monkeypatch
):
    monkeypatch.setattr("effboost.onnx._model.start_session", pytest.fail)
    content = edited(attack)
    with pytest.raises(RefusedError, match=ATTACKS[attack]):
        read_plain(content)
    with pytest.raises(ModelFileError, match=ATTACKS[attack]):
        OnnxModel("model.onnx", content)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused_by_one_error(content):
    with contextlib.suppress(RefusedError):
        read_plain(content)


def test_the_exported_file_is_read_as_it_is():
    assert read_plain(tiny_file()) == tiny_file()


def field(number, payload, wire=2, more=0):
    """Write a field of a message; `more` is added to its tag, which most readers cut off."""
    length = varint(len(payload)) if wire == 2 else b""
    return varint((number << 3 | wire) + more) + length + payload


def varint(value, n_bytes=0):
    """Write an integer, in more bytes than it needs if asked for."""
    digits = []
    while value > 0x7F or len(digits) + 1 < n_bytes:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def with_bytes(*, of_model=b"", of_graph=b"", of_tensor=b""):
    """Return the exported file with bytes at the end of the model, its graph or a tensor."""
    model = onnx.load_from_string(tiny_file())
    tensor = model.graph.initializer.pop().SerializeToString() + of_tensor
    graph = model.graph.SerializeToString() + field(5, tensor) + of_graph
    model.ClearField("graph")
    return model.SerializeToString() + field(7, graph) + of_model


HIDDEN = 2**32
OUTSIDE = field(1, b"location") + field(2, b"passwd")
UNUSUAL = {
    # onnxruntime cuts tags to 32 bits, and read the file that this names.
    "hidden data in another file": {"of_tensor": field(13, OUTSIDE, more=HIDDEN)},
    "hidden data elsewhere": {"of_tensor": field(14, b"\1", 0, more=HIDDEN)},
    "hidden dimensions": {"of_tensor": field(1, varint(10**10), 0, more=HIDDEN)},
    "hidden functions": {"of_model": field(25, field(1, b"f"), more=HIDDEN)},
    "hidden operators": {"of_graph": field(1, field(7, b"com.microsoft"), more=HIDDEN)},
    "hidden by 2 ** 60": {"of_tensor": field(13, OUTSIDE, more=2**60)},
    "a tag in more bytes than it needs": {"of_model": varint(8, 5) + b"\1"},
    "a length in more bytes than it needs": {"of_model": varint(18) + varint(1, 6) + b"x"},
    "a number of more than 64 bits": {"of_graph": b"\x08" + b"\xff" * 9 + b"\x7f"},
    "number 0": {"of_model": field(0, b"x")},
    "an unknown field": {"of_model": field(99, b"x")},
    "groups": {"of_model": varint(7 << 3 | 3) + varint(7 << 3 | 4)},
    "a number for a message": {"of_model": field(14, b"\1", 0)},
    "text for a number": {"of_tensor": field(2, b"x")},
    # Readers of Protocol Buffers merge them: each alone may be harmless.
    "two graphs": {"of_model": field(7, b"")},
    "two names": {"of_tensor": field(8, b"x")},
    "a device": {"of_graph": field(1, field(10, b""))},
}


@pytest.mark.parametrize("places", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_bytes_that_readers_read_in_different_ways_are_refused(places, monkeypatch):
    monkeypatch.setattr("effboost.onnx._model.start_session", pytest.fail)
    with pytest.raises(RefusedError, match=r"is not an ONNX file|contains|twice"):
        read_plain(with_bytes(**places))


def test_dimensions_in_several_fields_are_multiplied():
    """Each alone would be small enough."""
    dims = field(1, varint(10**6), 0) + field(1, varint(10**6) + varint(10**6))
    with pytest.raises(RefusedError, match=r"a tensor of [0-9,]{22,} values"):
        read_plain(with_bytes(of_tensor=dims))


def test_metadata_is_read_without_the_graph():
    metadata = read_metadata(tiny_file())
    assert metadata["effboost_format"] == "1"
    with pytest.raises(RefusedError, match="is not an ONNX file"):
        read_metadata(tiny_file()[:-3])


def test_large_files_are_read_quickly():
    tensor = onnx.numpy_helper.from_array(np.zeros((5000, 5000), np.float32), "weights")
    graph = helper.make_graph([], "g", [], [], [tensor])
    content = helper.make_model(graph).SerializeToString()
    start = time.perf_counter()
    read_plain(content)
    assert time.perf_counter() - start < 0.5
