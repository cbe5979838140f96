import numpy as np
import pytest

from effboost._utils.onnx_session import start_session
from effboost.onnx._graph import as_model, average_views, decide, join
from onnx import checker, numpy_helper, parser


def run(model, output, **inputs):
    return start_session(model.SerializeToString()).run([output], inputs)[0]


def weighing_network(side):
    """Build a "network" whose features differ for all views of an image."""
    graph = parser.parse_graph(f"""
        network (uint8[1, {side}, {side}, 3] pixels) => (float[1, 5] features) {{
            shape = Constant <value_ints: ints = [1, -1]> ()
            row = Reshape (pixels, shape)
            row_float = Cast <to: int = 1> (row)
            features = MatMul (row_float, weights)
        }}""")
    weights = np.random.default_rng(0).random((side * side * 3, 5), dtype=np.float32)
    graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    return as_model(graph), weights


def views(picture):
    turned = [np.rot90(picture, k) for k in range(4)]
    return turned + [view[:, ::-1] for view in turned]


@pytest.mark.parametrize("n_views", [4, 8])
def test_the_features_of_the_views_are_averaged(n_views):
    network, weights = weighing_network(6)
    picture = np.random.default_rng(1).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    model = average_views(network, n_views)
    checker.check_model(model, full_check=True)
    expected = np.mean([view.ravel() @ weights for view in views(picture)[:n_views]], axis=0)
    got = run(model, "features", pixels=picture[np.newaxis])
    np.testing.assert_allclose(got, [expected], rtol=1e-5)
    alone = run(network, "features", pixels=picture[np.newaxis])
    assert np.abs(alone - got).max() > 1


def test_one_view_leaves_the_network_as_it_is():
    network, _ = weighing_network(6)
    assert average_views(network, 1) is network


def test_views_share_one_copy_of_the_weights():
    network, weights = weighing_network(24)
    assert len(average_views(network, 8).SerializeToString()) < weights.nbytes + 10_000


@pytest.mark.parametrize(
    "classes",
    [["ALL", "HEM"], [3, 7], [False, True], [0.5, 2.0], np.array(["ALL", "HEM"], dtype=object)],
)
def test_the_label_is_that_of_the_most_probable_class(classes):
    classes = np.asarray(classes)
    scores = np.array([[0.4, 0.6]], dtype=np.float32)
    model = decide(classes)
    assert run(model, "label", scores=scores).tolist() == classes[[1]].tolist()
    np.testing.assert_array_equal(run(model, "probabilities", scores=scores), scores)


def test_the_first_of_equally_probable_classes_is_predicted():
    scores = np.full((1, 2), 0.5, dtype=np.float32)
    assert run(decide(np.array(["a", "b"])), "label", scores=scores).tolist() == ["a"]


def test_parts_with_the_same_names_inside_do_not_mix():
    first = parser.parse_graph("one (float[1] a) => (float[1] b) { t = Neg (a) b = Identity (t) }")
    second = parser.parse_graph("two (float[1] b) => (float[1] c) { t = Exp (b) c = Identity (t) }")
    model = join(as_model(first), as_model(second))
    got = run(model, "c", a=np.array([1.0], dtype=np.float32))
    np.testing.assert_allclose(got, np.exp([-1.0]), rtol=1e-6)
