"""Leave-one-site-out beside cross-validation within sites."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.model_selection import GroupKFold

from effboost import evaluate
from effboost.exceptions import SplitError
from effboost.inspection import HTMLReport


class MeanColourRegression(ClassifierMixin, BaseEstimator):
    """Logistic regression on the mean colours of images, which notes what it was fitted on."""

    fitted_on = []  # noqa: RUF012

    def fit(self, X, y, groups=None):
        self.model_ = LogisticRegression(C=1e3, max_iter=1000).fit(self._features(X), y)
        self.classes_ = self.model_.classes_
        self.fitted_on.append(sorted(set(X.groups)))
        return self

    def predict(self, X):
        return self.model_.predict(self._features(X))

    def predict_proba(self, X):
        return self.model_.predict_proba(self._features(X))

    @staticmethod
    def _features(X):
        return np.array([picture.mean(axis=(0, 1)) for picture in X]) / 50


@pytest.fixture(scope="module")
def laboratories():
    """Make images of three sites, at the third of which class b looks like class a of others."""
    rng = np.random.default_rng(0)
    sites = np.repeat(["Oslo", "Rome", "Ulm"], 40)
    groups = np.array([f"{site} {i // 4 % 10}" for i, site in enumerate(sites)])
    target = np.tile(np.repeat(["a", "b"], 4), 15)
    pictures = rng.integers(0, 60, (120, 10, 10, 3))
    pictures[target == "b", :, :, 0] += 60
    pictures[(sites == "Ulm") & (target == "b"), :, :, 0] -= 60
    pictures[(sites == "Ulm") & (target == "b"), :, :, 1] += 60
    return pictures.astype(np.uint8), target, groups, sites


@pytest.fixture(scope="module")
def report(laboratories):
    X, y, groups, sites = laboratories
    MeanColourRegression.fitted_on.clear()
    made = evaluate(
        MeanColourRegression(), X, y, groups=groups, sites=sites, cv=5, return_estimator=True
    )
    return made, list(MeanColourRegression.fitted_on)


def test_each_site_is_tested_by_a_model_of_the_others(report, laboratories):
    made, fitted_on = report
    sites = laboratories[3]
    assert len(fitted_on) == 3 + 3 * 5
    for site, seen in zip(("Oslo", "Rome", "Ulm"), fitted_on[:3], strict=True):
        assert {name.split()[0] for name in seen} == {"Oslo", "Rome", "Ulm"} - {site}
    for seen in fitted_on[3:]:
        assert len({name.split()[0] for name in seen}) == 1
        assert len(seen) == 8
    assert np.array_equal(made.fold, np.searchsorted(["Oslo", "Rome", "Ulm"], sites))
    assert made.shared_subjects == 0
    assert len(made.estimators) == 3


def test_numbers_of_a_site_are_scikit_learns(report, laboratories):
    made, _ = report
    _, y, _, sites = laboratories
    for name, site in made.sites.items():
        true, pred = y[sites == name], made.y_pred[sites == name]
        assert (site.n_images, site.n_subjects) == (40, 10)
        assert site.metrics["accuracy"].across.value == pytest.approx(accuracy_score(true, pred))
        assert site.metrics["weighted_f1"].across.value == pytest.approx(
            f1_score(true, pred, average="weighted")
        )
        recalls = recall_score(true, pred, average=None)
        assert [site.recall[c].across.value for c in "ab"] == pytest.approx(recalls)
        for compared in (*site.metrics.values(), *site.recall.values()):
            assert compared.gap.value == pytest.approx(
                compared.within.value - compared.across.value
            )


def test_gap_and_falling_class_are_found_where_a_site_differs(report):
    made, _ = report
    ulm, oslo = made.sites["Ulm"], made.sites["Oslo"]
    assert ulm.metrics["accuracy"].within.value > 0.95
    assert ulm.metrics["accuracy"].across.value < 0.7
    assert ulm.metrics["accuracy"].falls
    assert ulm.falling == ("b",)
    assert oslo.falling == ()
    text = str(made)
    assert "120 images of 30 subjects, 3 sites, each by models fitted on the others" in text
    assert "recall of b at Ulm falls from" in text
    assert "at Oslo falls" not in text
    data = made.to_dict()["sites"]
    assert data["Ulm"]["falling"] == ["b"]
    assert set(data["Ulm"]["metrics"]["accuracy"]) == {"within", "across", "gap"}


def test_interval_of_a_gap_is_that_of_paired_draws():
    """Models within and across sites that decide alike have a gap of exactly 0."""
    rng = np.random.default_rng(1)
    X = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)

    class Brightness(MeanColourRegression):
        def predict_proba(self, X):
            bright = np.array([picture.mean() > 127.5 for picture in X], dtype=float)
            return np.column_stack([1 - bright, bright])

        def predict(self, X):
            return self.classes_[self.predict_proba(X).argmax(axis=1)]

    made = evaluate(
        Brightness(), X, ["a", "a", "b", "b"] * 10, groups=range(40), sites=["s", "t"] * 20
    )
    gap = made.sites["s"].metrics["accuracy"].gap
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)
    assert made.sites["s"].metrics["accuracy"].within.low < 0.5


def test_html_report_has_a_section_on_sites(report, laboratories):
    made, _ = report
    html = HTMLReport.from_evaluation(made, laboratories[0]).html
    assert html.count("<section") == 11
    assert "Other sites" in html
    assert "<bdi>b</bdi> at <bdi>Ulm</bdi>: recall" in html
    assert "by a model that was fitted on all other sites" in html


def change(values, where, new):
    values = values.copy()
    values[where] = new
    return values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cv": GroupKFold(3)}, "sites need a number of folds"),
        ({"cv": "prefit"}, "sites need a number of folds"),
        ({"sites": ["Ulm"] * 120}, "all images are of the site 'Ulm'"),
        ({"sites": ["Ulm"] * 119}, "sites has 119 values"),
        ({"sites": [None] * 120}, "sites is missing for 120 images"),
        ({"sites": [0] * 2 + [1] * 118}, "the subject 'Oslo 0' is at the sites '0' and '1'"),
        ({"cv": 11}, r"site 'Oslo': 11 folds \(n_splits\), but there are 10 subjects"),
    ],
)
def test_sites_that_cannot_be_compared_raise(laboratories, changes, message):
    X, y, groups, sites = laboratories
    arguments = {"groups": groups, "sites": sites} | changes
    with pytest.raises(SplitError, match=message):
        evaluate(MeanColourRegression(), X, y, n_bootstrap=10, **arguments)


def test_classes_that_sites_do_not_share_raise(laboratories):
    X, y, groups, sites = laboratories
    with pytest.raises(SplitError, match=r"site 'Ulm' has only the class \['a'\]"):
        evaluate(
            MeanColourRegression(), X, change(y, sites == "Ulm", "a"), groups=groups, sites=sites
        )
    own = change(y, np.isin(groups, ["Ulm 1", "Ulm 3"]), "c")
    with pytest.raises(SplitError, match="class 'c' is at site 'Ulm' only"):
        evaluate(MeanColourRegression(), X, own, groups=groups, sites=sites)
