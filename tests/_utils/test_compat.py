"""How estimators look in a notebook."""

from email.message import Message

import numpy as np
import pytest

from common.networks import tiny_featurizer
from effboost import CNNClassifier, HybridClassifier, comparators
from effboost._utils import compat


@pytest.fixture
def site(monkeypatch):
    """An installed package that names where its documentation is."""
    message = Message()
    message["Project-URL"] = "Source, https://source.example"
    message["Project-URL"] = "Documentation, https://docs.example/effboost/"
    monkeypatch.setattr(compat, "metadata", lambda name: message)
    compat._find_documentation.cache_clear()
    yield "https://docs.example/effboost"
    compat._find_documentation.cache_clear()


@pytest.mark.parametrize("estimator", [HybridClassifier(), CNNClassifier(), tiny_featurizer()])
def test_each_estimator_links_to_its_own_page(estimator, site):
    name = type(estimator).__name__
    assert estimator._get_doc_link() == f"{site}/api/effboost.{name}.html"
    assert f'href="{site}/api/effboost.{name}.html"' in estimator._repr_html_()


def test_estimator_of_public_module_links_to_its_page(site):
    link = comparators.RotationAveragedCNN()._get_doc_link()
    assert link == f"{site}/api/effboost.comparators.RotationAveragedCNN.html"


def test_no_link_without_documentation_address(monkeypatch):
    monkeypatch.setattr(compat, "metadata", lambda name: Message())
    compat._find_documentation.cache_clear()
    assert HybridClassifier()._get_doc_link() == ""
    assert "Documentation for HybridClassifier" not in HybridClassifier()._repr_html_()
    compat._find_documentation.cache_clear()


def test_html_of_fitted_classifier_omits_weights():
    X = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3), dtype=np.uint8)
    clf = HybridClassifier(tiny_featurizer(fine_tune=True, max_epochs=1))
    unfitted = len(clf._repr_html_())
    html = clf.fit(X, ["ALL", "HEM"] * 4)._repr_html_()
    assert "classes_" in html
    assert "Fitted" in html
    assert "tensor(" not in html
    assert len(html) < 1.5 * unfitted


def test_repr_shows_changed_parameters():
    assert repr(HybridClassifier()) == "HybridClassifier()"
    text = repr(HybridClassifier(tiny_featurizer(image_size=32), head_protocol="holdout"))
    assert "image_size=32" in text
    assert len(text.splitlines()) < 10
