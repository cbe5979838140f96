"""What skops wrote, changed in ways that it would follow or that native code would."""

import importlib
import io
import json
import re
import zipfile

import numpy as np
import pytest
from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from effboost import LinearBoostedClassifier
from effboost._utils.refusal import RefusedError
from effboost.persistence._archive import write_archive
from effboost.persistence._checks import check_numbers
from effboost.persistence._heads import BoosterSlot, read_heads, write_heads
from effboost.persistence._sklearn_types import FORMER_MODULES, TYPES


def numbers():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3


def attack(head, change, message):
    """Change the members of what skops wrote, and have it refused."""
    description, members, _ = write_heads({"head": head})
    with zipfile.ZipFile(io.BytesIO(members["heads.skops"])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(parts["schema.json"])
    schema = change(schema, parts) or schema
    parts["schema.json"] = json.dumps(schema).encode()
    stream = io.BytesIO()
    write_archive(stream, parts)
    with pytest.raises(RefusedError, match=message):
        read_heads(description, members | {"heads.skops": stream.getvalue()})


def root(schema):
    return schema["content"]["head"]


def call(module, name, loader, **more):
    node = {"__module__": module, "__class__": name, "__loader__": loader, "__id__": 1}
    arguments = {
        "__module__": "builtins",
        "__class__": "tuple",
        "__loader__": "TupleNode",
        "content": [
            {
                "__module__": "builtins",
                "__class__": "str",
                "__loader__": "JsonNode",
                "content": '"sprung"',
            }
        ],
    }
    return node | {"content": arguments} | more


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
    "estimator that is not listed": call(
        "sklearn.neighbors._classification", "KNeighborsClassifier", "ObjectNode"
    ),
}


@pytest.mark.parametrize("node", CALLS.values(), ids=CALLS.keys())
def test_nothing_that_a_file_names_is_called(node, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def change(schema, parts):
        root(schema)["content"]["content"]["coef_"] = node
        for name in [name for name in parts if name.endswith(".npy")]:
            del parts[name]

    attack(LogisticRegression().fit(*numbers()), change, "which is not among the types")
    assert not list(tmp_path.iterdir())


def test_arrays_of_objects_and_of_absurd_shapes_are_refused():
    head = LogisticRegression().fit(*numbers())

    def with_array(content):
        def change(schema, parts):
            parts[next(name for name in parts if name.endswith(".npy"))] = content

        return change

    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    attack(head, with_array(stream.getvalue()), "not numbers")
    huge = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(huge, shape)
    attack(head, with_array(huge.getvalue()), "not as large as its shape")
    attack(head, with_array(b"\x80\x04K\x01."), "is no array")
    attack(head, lambda schema, parts: parts.update({"99.npy": b"x"}), "too many, or too few")


def test_schemas_that_are_none_are_refused():
    head = LogisticRegression().fit(*numbers())
    attack(head, lambda schema, _: schema.update(protocol=0), "has protocol 0, not 2")
    attack(head, lambda schema, _: schema.pop("__loader__") and None, "lacks a part")
    attack(head, lambda schema, _: schema.update(content=[1, 2]), "lacks a part")

    def nest(schema, parts):
        for _ in range(250):
            tuple_ = {"__module__": "builtins", "__class__": "tuple", "__loader__": "TupleNode"}
            schema = tuple_ | {"content": [schema], "protocol": 2}
        return schema

    attack(head, nest, "nested too deeply")


def test_slots_without_a_booster_are_refused():
    def change(schema, parts):
        schema["content"]["head"] = {
            "__module__": "effboost.persistence._heads",
            "__class__": "BoosterSlot",
            "__loader__": "ObjectNode",
        }
        for name in [name for name in parts if name.endswith(".npy")]:
            del parts[name]

    attack(LogisticRegression().fit(*numbers()), change, "a booster that there is not")
    assert BoosterSlot(3).number == 3


def attributes(node):
    return node["content"]["content"]


def test_a_tree_can_only_be_asked_through_its_classifier():
    """Asked alone, a tree would look at whatever features it names."""
    head = AdaBoostClassifier(n_estimators=2, random_state=0).fit(*numbers())

    def alone(schema, parts):
        stumps = attributes(root(schema))["estimators_"]["content"]
        stumps[0] = attributes(stumps[0])["tree_"]

    attack(head, alone, "a tree without a classifier around it")

    def under_another_name(schema, parts):
        stumps = attributes(root(schema))["estimators_"]["content"]
        attributes(stumps[0])["estimator_"] = attributes(stumps[0])["tree_"]

    attack(head, under_another_name, "a tree without a classifier around it")

    def shared(schema, parts):
        stumps = attributes(root(schema))["estimators_"]["content"]
        tree = attributes(stumps[0])["tree_"]
        stumps[1] = {
            "__module__": "builtins",
            "__class__": "str",
            "__loader__": "JsonNode",
            "content": "1",
            "__id__": tree["__id__"],
        }

    attack(head, shared, "one place for two things")

    def shared_attributes(schema, parts):
        stumps = attributes(root(schema))["estimators_"]["content"]
        attributes(root(schema))["named"] = stumps[0]["content"]

    attack(head, shared_attributes, "shares the attributes of a classifier")


def test_a_memory_of_pickles_is_refused(tmp_path):
    head = make_pipeline(StandardScaler(), LogisticRegression(), memory=str(tmp_path))
    with pytest.raises(RefusedError, match="a Pipeline has a memory; set memory=None"):
        write_heads({"head": head})


def test_the_users_own_head_is_not_touched():
    head = RandomForestClassifier(n_estimators=2, random_state=np.random.RandomState(0))
    head.fit(*numbers())
    write_heads({"head": head})
    assert isinstance(head.random_state, np.random.RandomState)


def grown():
    return DecisionTreeClassifier(random_state=0).fit(*numbers())


def with_nodes(estimator, field, place, value):
    """Write into the nodes of a tree, as a hostile file would."""
    state = estimator.tree_.__getstate__()
    nodes = state["nodes"].copy()
    nodes[field][place] = value
    estimator.tree_.__setstate__(state | {"nodes": nodes})
    return estimator


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("left_child", 10**6),
        ("right_child", 0),
        ("left_child", -5),
        ("feature", 99),
        ("feature", -3),
    ],
)
def test_trees_that_lead_astray_are_refused(field, value):
    check_numbers(grown())
    with pytest.raises(RefusedError, match="nodes or features that there are not"):
        check_numbers(with_nodes(grown(), field, 0, value))


def test_trees_of_other_features_are_refused():
    tree = grown()
    tree.n_features_in_ = 2
    with pytest.raises(RefusedError, match="nodes or features"):
        check_numbers(tree)
    forest = RandomForestClassifier(n_estimators=2).fit(*numbers())
    check_numbers(forest)
    forest.n_features_in_ = 2
    with pytest.raises(RefusedError, match="a forest has trees"):
        check_numbers(forest)
    del forest.n_features_in_
    with pytest.raises(RefusedError, match="lacks a part"):
        check_numbers(forest)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_n_support", np.array([10**6, 0, 0], dtype=np.int32)),
        ("_n_support", np.array([-1, 16, 15], dtype=np.int32)),
        ("support_", np.zeros(2, dtype=np.int32)),
        ("_dual_coef_", np.zeros((9, 30))),
        ("_intercept_", np.zeros(1)),
        ("support_vectors_", np.zeros((30, 2))),
        ("classes_", np.arange(200)),
        ("kernel", "precomputed"),
        ("_sparse", True),
        ("_probA", np.zeros(1)),
    ],
)
def test_support_vectors_that_are_not_there_are_refused(name, value):
    machine = SVC(C=1e-3).fit(*numbers())
    assert machine.support_.size == 30
    check_numbers(machine)
    setattr(machine, name, value)
    with pytest.raises(RefusedError, match="other vectors than it counts"):
        check_numbers(machine)


@pytest.mark.parametrize("n_jobs", [10**9, "all", 2.5])
def test_absurd_numbers_of_jobs_are_refused(n_jobs):
    with pytest.raises(RefusedError, match="no number of jobs"):
        check_numbers(RandomForestClassifier(n_jobs=n_jobs))


def written_schema(head):
    members = write_heads({"head": head})[1]
    with zipfile.ZipFile(io.BytesIO(members["heads.skops"])) as archive:
        return archive.read("schema.json").decode()


def test_types_are_stored_by_their_public_names():
    head = make_pipeline(StandardScaler(), LogisticRegression()).fit(*numbers())
    schema = written_schema(head)
    assert '"sklearn.linear_model"' in schema
    assert "sklearn.linear_model._logistic" not in schema
    head = LinearBoostedClassifier(random_state=0).fit(*numbers())
    schema = written_schema(head)
    assert '"__module__": "effboost"' in schema
    assert not re.search(r"effboost\.[a-z.]*_", schema)


@pytest.mark.parametrize(("former", "public"), sorted(FORMER_MODULES.items()))
def test_former_modules_lead_to_types_that_are_there(former, public):
    names = [name for name in TYPES if name.rpartition(".")[0] == public]
    module = importlib.import_module(public)
    assert public == "sklearn.utils" or names
    assert all(hasattr(module, name.rpartition(".")[2]) for name in names)
