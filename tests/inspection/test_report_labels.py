import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from effboost import evaluate
from effboost.exceptions import UnsupportedInputError
from effboost.inspection import HTMLReport


class Brightness(ClassifierMixin, BaseEstimator):
    """Calls bright images the second class."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        bright = np.array([0.9 if image.mean() > 100 else 0.1 for image in X])
        return np.column_stack([1 - bright, bright])

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class Decisions(ClassifierMixin, BaseEstimator):
    """Makes the same decisions, without probabilities."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.classes_[[int(image.mean() > 100) for image in X]]


@pytest.fixture
def images():
    """Make sixteen subjects of four images; S3 has a wrong label, and so has one image of S4."""
    rng = np.random.default_rng(0)
    groups = np.repeat([f"<i>S{i}</i>" for i in range(16)], 4)
    y = np.repeat(["ALL", "HEM"] * 8, 4)
    X = rng.integers(0, 90, (64, 10, 10, 3)) + 100 * (y == "HEM")[:, None, None, None]
    y[12:16], y[17] = "ALL", "HEM"
    return X.astype(np.uint8), y, groups


def test_page_lists_images_and_subjects_with_wrong_labels(images):
    X, y, groups = images
    made = evaluate(Brightness(), X, y, groups=groups, cv=2, n_bootstrap=10)
    page = HTMLReport.from_evaluation(made, X, labels=True, n_mistakes=0).html
    section = page.partition('aria-labelledby="labels"')[2].partition("</section>")[0]
    assert "&lt;i&gt;S3&lt;/i&gt;" in section
    assert "mean probability of its label 0.1" in section
    assert "position 17" in section
    assert section.count("<tr>") == 2
    assert "<i>" not in section
    assert 'href="#labels"' in page
    plain = HTMLReport.from_evaluation(made, X, n_mistakes=0).html
    assert 'aria-labelledby="labels"' not in plain
    assert 'href="#labels"' not in plain


def test_subjects_that_are_not_known_are_not_listed(images):
    X, y, _ = images
    made = evaluate(Brightness(), X, y, cv=2, n_bootstrap=10)
    page = HTMLReport.from_evaluation(made, X, labels=True, n_mistakes=0).html
    section = page.partition('aria-labelledby="labels"')[2].partition("</section>")[0]
    assert section.count("<tr>") == 1 + 5
    assert "subject has a suspicious label" not in section


def test_decisions_without_probabilities_raise(images):
    X, y, groups = images
    made = evaluate(Decisions(), X, y, groups=groups, cv=2, n_bootstrap=10)
    with pytest.raises(UnsupportedInputError, match="needs a classifier with probabilities"):
        HTMLReport.from_evaluation(made, X, labels=True, n_mistakes=0)
