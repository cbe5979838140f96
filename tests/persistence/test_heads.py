"""What skops wrote, changed in ways that it would follow or that compiled code would."""

import copy
import importlib
import io
import json
import re

import numpy as np
import pytest
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from common.heads import HEADS, features, fitted_heads
from common.skops_files import read_skops, write_npy, write_skops
from effboost import LinearBoostedClassifier
from effboost._utils.refusal import RefusedError
from effboost.persistence._heads import BoosterSlot, read_heads, write_heads
from effboost.persistence._schemas import SCHEMAS
from effboost.persistence._sklearn_types import FORMER_MODULES, TYPES


def attack(head, change, message):
    """Change the members of what skops wrote, and have it refused."""
    description, members, _ = write_heads({"head": head})
    schema, arrays = read_skops(members["heads.skops"])
    schema = change(schema, arrays) or schema
    members["heads.skops"] = write_skops(schema, arrays)
    with pytest.raises(RefusedError, match=message):
        read_heads(description, members)


def root(schema):
    return schema["content"]["head"]


def attributes(node):
    return node["content"]["content"]


def put(array, *path):
    """Make a change that puts an array in the place of another one."""

    def change(schema, arrays):
        node = root(schema)
        for name in path:
            node = attributes(node)[name] if isinstance(name, str) else node["content"][name]
        arrays[node["file"]] = array if isinstance(array, bytes) else write_npy(array)

    return change


def logistic():
    return LogisticRegression().fit(*features())


def tree():
    return DecisionTreeClassifier(random_state=0).fit(*features())


def call(module, name, loader):
    node = {"__module__": module, "__class__": name, "__loader__": loader, "__id__": 10**6}
    text = {"__module__": "builtins", "__class__": "str", "__loader__": "JsonNode"}
    arguments = {"__module__": "builtins", "__class__": "tuple", "__loader__": "TupleNode"}
    return node | {"content": arguments | {"content": [text | {"content": '"sprung"'}]}}


CALLS = {
    "reduce": call("os", "mkdir", "ConstructorFromReduceNode"),
    "function": call("os", "system", "FunctionNode"),
    "type": call("os", "system", "TypeNode"),
    "object": call("subprocess", "Popen", "ObjectNode"),
    "method": call("sklearn.pipeline", "Pipeline", "MethodNode"),
    "partial": call("functools", "partial", "PartialNode"),
    "operator": call("operator", "methodcaller", "OperatorFuncNode"),
    "namedtuple": call("os", "terminal_size", "TupleNode"),
    "generator": call("numpy.random", "Generator", "RandomGeneratorNode"),
    "tree": call("os", "mkdir", "TreeNode"),
    "loader": call("sklearn.dummy", "DummyClassifier", "EvalNode"),
    "estimator that is not listed": call("sklearn.neighbors", "KNeighborsClassifier", "ObjectNode"),
}


@pytest.mark.parametrize("node", CALLS.values(), ids=CALLS.keys())
def test_types_and_functions_named_by_a_file_are_not_called(node, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def change(schema, arrays):
        attributes(root(schema))["coef_"] = node

    attack(logistic(), change, "which is not among the types")
    assert not list(tmp_path.iterdir())


def test_every_type_has_a_schema_and_is_in_a_tested_head():
    assert set(SCHEMAS) == TYPES
    found = set()
    for head in fitted_heads().values():
        schema = written_schema(head)
        found |= {
            f"{module}.{name}"
            for module, name in re.findall(
                r'"__class__": "(\w+)", "__module__": "([\w.]+)", "__loader__": "ObjectNode"',
                schema,
            )
            for module, name in [(name, module)]
        }
    assert found == TYPES


def npy(header, data=b""):
    """Write an .npy file by hand, whatever its header says."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


HUGE = "'fortran_order': False, 'shape': (1099511627776,)}"
ARRAYS = {
    "objects": (b"\x80\x04K\x01.", "is not an array"),
    "pickled": (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"x"), "not numbers"),
    "huge": (npy("{'descr': '<f8', " + HUGE), "impossible shape"),
    "strings of no length": (npy("{'descr': '<U0', " + HUGE), "not numbers"),
    "bytes of no length": (npy("{'descr': '|V0', " + HUGE), "not numbers"),
    "subarrays": (npy("{'descr': ('<f8', (2,)), 'fortran_order': False, 'shape': (3,)}"), "not n"),
    "negative": (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"), "impossible"),
    "truncated": (
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}", b"1234"),
        "not as large as its shape",
    ),
    "swapped": (write_npy(np.zeros((3, 6), ">f8")), "not numbers"),
    "structured": (write_npy(np.zeros(3, "f8,i4")), "not numbers"),
    "complex": (write_npy(np.zeros(3, complex)), "not numbers"),
    "dates": (write_npy(np.zeros(3, "M8[s]")), "not numbers"),
}


@pytest.mark.parametrize(("content", "message"), ARRAYS.values(), ids=ARRAYS.keys())
def test_arrays_that_are_not_plain_numbers_are_refused(content, message):
    attack(logistic(), put(content, "coef_"), message)


def test_arrays_that_the_schema_does_not_name_are_refused():
    attack(logistic(), lambda schema, arrays: arrays.update({"99.npy": b"x"}), "does not name")
    attack(logistic(), lambda schema, arrays: arrays.clear(), "missing or used twice")

    def twice(schema, arrays):
        node = attributes(root(schema))["intercept_"]
        node["file"] = attributes(root(schema))["coef_"]["file"]

    attack(logistic(), twice, "missing or used twice")


def test_damaged_schemas_are_refused():
    head = logistic()
    attack(head, lambda schema, _: schema.update(protocol=0), "has protocol '0', not 2")
    attack(head, lambda schema, _: schema.pop("__loader__") and None, "lacks a part")
    attack(head, lambda schema, _: schema.update(content=[1]), "lacks a part")
    attack(head, lambda schema, _: root(schema).pop("content") and None, "lacks a part")

    attack(head, lambda s, _: s["key_types"].update(content=[]), "keys do not have types")


@pytest.mark.parametrize("depth", [70, 250, 480, 950])
def test_deep_nesting_is_refused(depth):
    def nest(schema, arrays):
        node = '{"__module__": "builtins", "__class__": "tuple", "__loader__": "TupleNode", '
        front, end = f'{node}"protocol": 2, "content": [', "]}"
        return f"{front * depth}{json.dumps(schema)}{end * depth}".encode()

    attack(logistic(), nest, "nested|recursion")


NAMES = ("__deepcopy__", "__reduce_ex__", "__class__", "predict_proba", "fit", "get_params", "x")


@pytest.mark.parametrize("name", NAMES)
def test_unknown_attributes_are_refused(name):
    def change(schema, arrays):
        attributes(root(schema))[name] = copy.deepcopy(attributes(root(schema))["C"])

    attack(logistic(), change, f"LogisticRegression has no attribute '{name}'")


def test_types_as_values_are_refused():
    def change(schema, arrays):
        node = {"__module__": "numpy", "__class__": "float32", "__loader__": "TypeNode"}
        attributes(root(schema))["C"] = node

    attack(logistic(), change, "has a TypeNode where none may be")


@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', "9" * 30, "x", '"' + "x" * 10**6 + '"'])
def test_values_that_are_not_scalars_are_refused(text):
    def change(schema, arrays):
        attributes(root(schema))["C"]["content"] = text

    attack(logistic(), change, r"a value in heads\.skops|has a text of 1,000,002 characters")


def test_objects_inside_themselves_and_with_one_number_are_refused():
    head = make_pipeline(StandardScaler(), LogisticRegression()).fit(*features())

    def steps(schema):
        return [pair["content"][1] for pair in attributes(root(schema))["steps"]["content"]]

    def inside(schema, arrays):
        steps(schema)[1]["__id__"] = root(schema)["__id__"]
        steps(schema)[1] |= {key: root(schema)[key] for key in ("__class__", "__module__")}

    attack(head, inside, "an estimator inside itself")

    def twice(schema, arrays):
        steps(schema)[1]["__id__"] = steps(schema)[0]["__id__"]

    attack(head, twice, "one number for two objects")


def test_slots_without_a_booster_are_refused():
    head = BaggingClassifier(fitted_heads()["booster"], 1).fit(*features())

    def change(schema, arrays):
        attributes(attributes(root(schema))["estimators_"]["content"][0])["number"]["content"] = "9"

    attack(head, change, "a booster that does not exist")
    assert BoosterSlot(3).number == 3


def test_a_tree_without_its_classifier_is_refused():
    """A tree does not compare the features that it reads with those that there are."""
    head = AdaBoostClassifier(n_estimators=2, random_state=0).fit(*features())

    def stumps(schema):
        return attributes(root(schema))["estimators_"]["content"]

    def alone(schema, arrays):
        stumps(schema)[0] = attributes(stumps(schema)[0])["tree_"]

    attack(head, alone, "a TreeNode where none may be")

    def under_another_name(schema, arrays):
        own = attributes(stumps(schema)[0])
        own["classes_"] = own["tree_"]

    attack(head, under_another_name, "a TreeNode where none may be")


def with_tree(change):
    """Make a change of the node of a decision tree."""
    return lambda schema, arrays: change(attributes(root(schema))["tree_"], arrays)


def resize(part, shape):
    """Make a change of the shape of an array of a tree."""

    def change(node, arrays):
        state = node["content"]["content"]
        file = state[part]["file"] if part in state else argument(node, 1)["file"]
        array = np.load(io.BytesIO(arrays[file]))
        if shape == () or shape == (0,):
            arrays[file] = write_npy(np.zeros(shape, array.dtype))
        else:
            arrays[file] = write_npy(array[:-1] if shape == -1 else array.reshape(shape))

    return with_tree(change)


def argument(node, number):
    return node["__reduce__"]["args"]["content"][number]


TREES = {
    # This one crashed the process while it was loaded.
    "nodes of shape ()": resize("nodes", ()),
    "no nodes": resize("nodes", (0,)),
    "fewer nodes": resize("nodes", -1),
    "nodes in a table": resize("nodes", (1, -1)),
    "values of shape ()": resize("values", ()),
    "fewer values": resize("values", -1),
    "values in a table": resize("values", (1, -1)),
    "counts of shape ()": resize("counts", ()),
    "no counts": resize("counts", (0,)),
    "no outputs": with_tree(lambda node, _: argument(node, 2).update(content="0")),
    "many outputs": with_tree(lambda node, _: argument(node, 2).update(content="99")),
    "no features": with_tree(lambda node, _: argument(node, 0).update(content="0")),
    "text": with_tree(lambda node, _: argument(node, 0).update(content='"x"')),
    "counted nodes": with_tree(
        lambda node, _: node["content"]["content"]["node_count"].update(content="1000000")
    ),
    "another part": with_tree(
        lambda node, _: node["content"]["content"].update(more=argument(node, 0))
    ),
}


@pytest.mark.parametrize("change", TREES.values(), ids=TREES.keys())
def test_trees_whose_arrays_do_not_fit_are_refused(change):
    attack(tree(), change, "decision tree")


def test_nodes_of_another_dtype_are_refused():
    def change(node, arrays):
        file = node["content"]["content"]["nodes"]["file"]
        nodes = np.load(io.BytesIO(arrays[file]))
        arrays[file] = write_npy(nodes.astype([(name, "<f8") for name in nodes.dtype.names]))

    attack(tree(), with_tree(change), "not numbers")


@pytest.mark.parametrize("name", ["support_vectors_", "_dual_coef_", "_n_support", "support_"])
@pytest.mark.parametrize("dtype", ["f8,i4", "f4", "i8", "u1", "U3", "?"])
def test_support_vectors_of_another_dtype_are_refused(name, dtype):
    """Structured ones crashed the process at the first prediction."""
    machine = SVC().fit(*features())
    array = np.zeros(getattr(machine, name).shape, dtype)
    attack(machine, put(array, name), "SVC|not numbers")


def test_a_memory_of_pickles_is_refused(tmp_path):
    head = make_pipeline(StandardScaler(), LogisticRegression(), memory=str(tmp_path))
    with pytest.raises(RefusedError, match="a Pipeline has a memory; set memory=None"):
        write_heads({"head": head})


def test_heads_without_a_schema_are_refused_when_saving():
    with pytest.raises(RefusedError, match=r"KNeighborsClassifier.*joblib"):
        write_heads({"head": KNeighborsClassifier().fit(*features())})


def test_saving_does_not_change_the_head():
    head = RandomForestClassifier(2, n_jobs=2, random_state=np.random.RandomState(0))
    head.fit(*features())
    write_heads({"head": head})
    assert isinstance(head.random_state, np.random.RandomState)
    assert head.n_jobs == 2


@pytest.mark.parametrize(("n_jobs", "expected"), [(None, None), (1, 1), (2, 1), (-1, 1)])
def test_loaded_heads_work_in_one_process(n_jobs, expected):
    head = fitted_heads()["bagging of boosters"]
    head = copy.deepcopy(head).set_params(n_jobs=n_jobs, estimator__n_jobs=n_jobs)
    again = read_heads(*write_heads({"head": head})[:2])["head"]
    assert again.n_jobs == again.estimator.n_jobs == expected
    assert all(part.n_jobs == 1 for part in again.estimators_)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_every_kind_of_head_predicts_the_same_after_loading(name, n_classes):
    head = fitted_heads(n_classes)[name]
    again = read_heads(*write_heads({"head": head})[:2])["head"]
    X = features(20, n_classes, seed=1)[0]
    for method in ("predict", "predict_proba", "decision_function"):
        assert hasattr(again, method) == hasattr(head, method)
        if hasattr(head, method):
            assert np.array_equal(getattr(again, method)(X), getattr(head, method)(X))


def test_parameters_that_a_file_lacks_have_their_defaults():
    """Those that scikit-learn added after the file was written."""
    head = LogisticRegression(C=2).fit(*features())
    description, members, _ = write_heads({"head": head})
    schema, arrays = read_skops(members["heads.skops"])
    for name in ("C", "l1_ratio"):
        del attributes(root(schema))[name]
    again = read_heads(description, {"heads.skops": write_skops(schema, arrays)})["head"]
    assert again.C == 1
    assert np.array_equal(again.predict_proba(features()[0]), head.predict_proba(features()[0]))


def test_a_frozen_estimator_without_one_is_refused():
    """Looking for any of its attributes ended in a RecursionError."""
    head = fitted_heads()["frozen, sigmoid"]

    def change(schema, arrays):
        # The arrays are named in another place, too.
        attributes(root(schema))["n_jobs"] = attributes(attributes(root(schema))["estimator"]).pop(
            "estimator"
        )

    attack(head, change, "FrozenEstimator has no estimator|arrays that its schema does not name")


def test_heads_with_pandas_output_inside_can_be_saved():
    scaler = StandardScaler().set_output(transform="pandas")
    head = make_pipeline(scaler, LogisticRegression()).fit(*features())
    again = read_heads(*write_heads({"head": head})[:2])["head"]
    assert list(again[-1].feature_names_in_) == list(head[-1].feature_names_in_)
    X = features(20)[0]
    assert np.array_equal(again.predict_proba(X), head.predict_proba(X))


def written_schema(head):
    members = write_heads({"head": head})[1]
    if "heads.skops" not in members:
        return ""
    return json.dumps(read_skops(members["heads.skops"])[0])


def test_types_are_stored_by_their_public_names():
    schema = written_schema(make_pipeline(StandardScaler(), LogisticRegression()).fit(*features()))
    assert '"sklearn.linear_model"' in schema
    assert "sklearn.linear_model._logistic" not in schema
    schema = written_schema(LinearBoostedClassifier(random_state=0).fit(*features()))
    assert '"__module__": "effboost"' in schema
    assert not re.search(r"effboost\.[a-z.]*_", schema)


@pytest.mark.parametrize(("former", "public"), sorted(FORMER_MODULES.items()))
def test_former_modules_map_to_public_ones(former, public):
    names = [name for name in TYPES if name.rpartition(".")[0] == public]
    module = importlib.import_module(public)
    assert public == "sklearn.utils" or names
    assert all(hasattr(module, name.rpartition(".")[2]) for name in names)
