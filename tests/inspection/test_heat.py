import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.ensemble import RandomForestClassifier

from common.networks import tiny_featurizer
from effboost import CNNClassifier, HybridClassifier
from effboost.exceptions import MissingDependencyError, UnsupportedInputError
from effboost.inspection import (
    Attribution,
    AttributionDisplay,
    CAMDisplay,
    ClassActivation,
    grad_cam,
    hybrid_attribution,
)


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


@pytest.fixture
def clf(pixels, three_classes):
    return HybridClassifier(tiny_featurizer(), random_state=0).fit(pixels, three_classes)


def heat_of(axes):
    """Return the heat that is drawn on an Axes, above the grey picture."""
    grey, heat = axes.get_images()
    assert grey.get_cmap().name == "gray"
    return heat


def test_predicted_classes_are_drawn_on_one_scale(clf, pixels):
    display = AttributionDisplay.from_estimator(clf, pixels[:4])
    found = hybrid_attribution(clf, pixels[:4])
    np.testing.assert_array_equal(display.attribution.maps, found.maps)
    assert display.pictures.shape == (4, 24, 24, 3)  # as the network saw them
    columns = found.margin.argmax(axis=1)
    limit = np.abs(found.maps[np.arange(4), columns]).max()
    for i, axes in enumerate(display.axes_):
        label, margin = found.outputs[columns[i]], found.margin[i, columns[i]]
        assert axes.get_title().startswith(f"{label}: score {margin:+.2f}")
        assert axes.get_title().endswith("TreeSHAP")
        heat = heat_of(axes)
        assert heat.get_clim() == (-limit, limit)
        assert heat.get_array().shape == (24, 24)
        assert heat.colorbar.ax.get_ylabel() == f"score of {label},\nper position"
    assert display.figure_ is display.axes_[0].figure


def test_output_selects_the_class(clf, pixels):
    display = AttributionDisplay.from_estimator(clf, pixels[:2], output="healthy")
    assert all(axes.get_title().startswith("healthy: ") for axes in display.axes_)
    with pytest.raises(UnsupportedInputError, match="'sick' is not a class of the model"):
        AttributionDisplay.from_estimator(clf, pixels[:2], output="sick")


def test_maps_of_two_classes_are_opposite(pixels):
    y = np.array(["ALL", "HEM"])[np.arange(24) % 2]
    clf = HybridClassifier(tiny_featurizer(), random_state=0).fit(pixels, y)
    drawn = {
        label: AttributionDisplay.from_estimator(clf, pixels[:4], output=label)
        for label in ("ALL", "HEM", None)
    }
    margin = hybrid_attribution(clf, pixels[:4]).margin[:, 0]
    assert len(set(margin > 0)) == 2  # some are predicted ALL and some HEM
    assert (clf.predict(pixels[:4]) == np.where(margin > 0, "HEM", "ALL")).all()
    for i, predicted in enumerate(clf.predict(pixels[:4])):
        heat = {label: heat_of(d.axes_[i]).get_array() for label, d in drawn.items()}
        titles = {label: d.axes_[i].get_title() for label, d in drawn.items()}
        np.testing.assert_array_equal(heat["ALL"], -heat["HEM"])
        assert np.abs(heat["HEM"]).max() > 0
        assert titles["ALL"].startswith(f"ALL: log-odds {-margin[i]:+.2f} ")
        assert titles["HEM"].startswith(f"HEM: log-odds {margin[i]:+.2f} ")
        np.testing.assert_array_equal(heat[None], heat[predicted])
        assert titles[None] == titles[predicted]
    with pytest.raises(UnsupportedInputError, match=r"'all' is not a class of the model: \['ALL'"):
        AttributionDisplay.from_estimator(clf, pixels[:1], output="all")


def test_map_of_one_position_is_drawn_if_it_is_asked_for(pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer(backbone="resnet18", image_size=32), random_state=0)
    clf.fit(pixels, three_classes)
    assert hybrid_attribution(clf, pixels[:1]).maps.shape == (1, 3, 1, 1)
    named = AttributionDisplay.from_estimator(clf, pixels[:1], method="exact")
    assert named.attribution.method == "TreeSHAP"
    assert AttributionDisplay.from_estimator(clf, pixels[:1]).attribution.method == "occlusion"


def test_given_axes_are_used(clf, pixels):
    axes = Figure().subplots(1, 2)
    display = AttributionDisplay.from_estimator(clf, pixels[:2], ax=axes)
    assert display.axes_.tolist() == axes.tolist()
    assert not plt.get_fignums()
    one = AttributionDisplay.from_estimator(clf, pixels[:1], ax=axes[0])
    assert one.axes_.tolist() == [axes[0]]
    with pytest.raises(UnsupportedInputError, match="2 pictures need as many Axes, not 1"):
        AttributionDisplay.from_estimator(clf, pixels[:2], ax=axes[0])


@pytest.mark.parametrize(
    ("against", "margin", "side"),
    # Maps of occlusion do not add up to the margin: hidden, the cell may have a higher one.
    [(-1, 24.0, 1), (-3, -24.0, 0), (-1, -2.0, 1)],
    ids=["for", "against", "occlusion"],
)
def test_contour_outlines_the_side_of_the_decision(against, margin, side):
    maps = np.zeros((1, 1, 8, 8))
    maps[0, 0, :, :3], maps[0, 0, :, 5:] = against, 2
    found = Attribution(
        maps, np.zeros((1, 1)), np.full((1, 1), margin), np.array(["HEM"]), "TreeSHAP"
    )
    pictures = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    (axes,) = AttributionDisplay.from_attribution(pictures, found).axes_
    (contour,) = axes.collections
    columns = np.concatenate([path.vertices[:, 0] for path in contour.get_paths()])
    assert (columns > 32).all() if side else (columns < 32).all()
    assert axes.get_title().startswith(f"HEM: log-odds {margin:+.2f} (base +0.00)")


def test_class_names_are_not_formulas():
    maps = np.ones((1, 1, 2, 2))
    found = Attribution(
        maps, np.zeros((1, 1)), np.ones((1, 1)), np.array([r"$\frac{<b>"]), "occlusion"
    )
    display = AttributionDisplay.from_attribution(np.zeros((1, 9, 9, 3), np.uint8), found)
    display.figure_.canvas.draw()  # a formula that is not closed would raise here
    assert r"$\frac{<b>" in display.axes_[0].get_title()
    assert "lost when hidden" in heat_of(display.axes_[0]).colorbar.ax.get_ylabel()


def test_other_heads_are_explained_by_occlusion(pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer(), RandomForestClassifier(5), random_state=0)
    clf.fit(pixels, three_classes)
    display = AttributionDisplay.from_estimator(clf, pixels[:1])
    assert display.attribution.method == "occlusion"
    assert display.axes_[0].get_title().endswith("occlusion")
    assert display.pictures.shape == (1, 224, 224, 3)
    with pytest.raises(UnsupportedInputError, match="the head is RandomForestClassifier"):
        AttributionDisplay.from_estimator(clf, pixels[:1], method="exact")
    with pytest.raises(UnsupportedInputError, match="explains a HybridClassifier"):
        AttributionDisplay.from_estimator(clf.classifier_, pixels[:1], method="exact")
    with pytest.raises(UnsupportedInputError, match="must be one of"):
        AttributionDisplay.from_estimator(clf, pixels[:1], method="lime")


def test_background_reaches_hybrid_attribution(clf, pixels):
    display = AttributionDisplay.from_estimator(clf, pixels[:1], background=pixels)
    expected = hybrid_attribution(clf, pixels[:1], background=pixels).maps
    np.testing.assert_array_equal(display.attribution.maps, expected)


def test_class_activations_are_drawn(pixels, three_classes):
    cnn = CNNClassifier(tiny_featurizer(fine_tune=True, max_epochs=1), random_state=0)
    cnn.fit(pixels, three_classes)
    display = CAMDisplay.from_estimator(cnn, pixels[:2], method="grad_cam++", target="blast")
    found = grad_cam(cnn, pixels[:2], method="grad_cam++", target="blast")
    for i, axes in enumerate(display.axes_):
        np.testing.assert_allclose(heat_of(axes).get_array(), found.maps[i], atol=1e-6)
        assert axes.get_title() == (
            f"blast, by the network's own softmax\nGrad-CAM++ at {found.layer}"
        )
    again = CAMDisplay.from_activation(display.pictures, found, ax=Figure().subplots(1, 2))
    assert again.activation is found
    frozen = HybridClassifier(tiny_featurizer(), random_state=0).fit(pixels, three_classes)
    (axes,) = CAMDisplay.from_estimator(frozen, pixels[:1], method="eigen_cam").axes_
    assert axes.get_title() == "Eigen-CAM at features.5"


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (np.zeros((1, 9, 9, 3)), "they must have"),
        (np.zeros((1, 9, 9), np.uint8), "they must have"),
        (np.zeros((2, 9, 9, 3), np.uint8), "2 pictures, but maps of 1"),
    ],
    ids=["type", "shape", "number"],
)
def test_pictures_of_wrong_type_shape_or_number_raise(pictures, message):
    found = ClassActivation(np.zeros((1, 9, 9), np.float32), np.array(["a"]), "Grad-CAM", "x")
    with pytest.raises(UnsupportedInputError, match=message):
        CAMDisplay(pictures, found)


def test_missing_matplotlib_raises_with_the_extra(clf, pixels, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependencyError, match=r"effboost\[report\]"):
        AttributionDisplay.from_estimator(clf, pixels[:1])
