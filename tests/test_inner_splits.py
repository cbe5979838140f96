"""No subject on both sides of any split that is made inside a fit, whoever makes it.

The pictures tell who they show: each is of one shade, the number of its subject. So what counts
is which subjects' pixels reach the training, the stopping and the head, not what any split says.
"""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    PredefinedSplit,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from xgboost import XGBClassifier

import effboost._training.network_fit
from common.networks import tiny_featurizer
from common.recorded import RecordedRegression
from effboost import CNNClassifier, HybridClassifier, ImageFeaturizer, ImageSequence
from effboost.exceptions import SplitError
from effboost.model_selection import SubjectKFold, subject_folds

SHADES = 5


def subjects_in(images):
    return {int(images.decode(i).getpixel((0, 0))[0]) // SHADES for i in range(len(images))}


class Log:
    """Whose pixels went where, fit by fit."""

    def __init__(self):
        self.tunings = []  # (trained on, stopped by)
        self.hybrids = []  # (trained on, stopped by, head fitted on, head watched on)
        self.leaks = []
        self.n_predictions = 0


@pytest.fixture
def log(monkeypatch):
    log = Log()
    tune, fit, features = (
        effboost._training.network_fit.fine_tune_cached,
        HybridClassifier.fit,
        ImageFeaturizer._compute_features,
    )
    tuned, extracted = [], []

    def logged_tune(cache, start, trainee, train, validation, *others):
        stopping = set() if validation is None else subjects_in(validation.images.images)
        tuned.append((subjects_in(train.images.images), stopping))
        log.tunings.append(tuned[-1])
        return tune(cache, start, trainee, train, validation, *others)

    def logged_features(self, images, **options):
        subjects = subjects_in(images.images)
        extracted.append(subjects)
        seen = self.__dict__.get("_seen")
        if seen is not None:
            log.n_predictions += 1
            if seen & subjects:
                log.leaks.append((seen, subjects))
        return features(self, images, **options)

    def logged_fit(self, X, y, **params):
        tuned.clear()
        extracted.clear()
        fit(self, X, y, **params)
        network = tuned[0] if tuned else (set(), set())
        watched = extracted[1] if len(extracted) > 1 else set()
        log.hybrids.append((*network, extracted[0], watched))
        # From here on, whatever this classifier is asked about, it has not learned from.
        self.featurizer_._seen = set().union(*network, extracted[0], watched)
        return self

    logged_fit.__wrapped__ = fit  # scikit-learn reads the signature
    monkeypatch.setattr(effboost._training.network_fit, "fine_tune_cached", logged_tune)
    monkeypatch.setattr(ImageFeaturizer, "_compute_features", logged_features)
    monkeypatch.setattr(HybridClassifier, "fit", logged_fit)
    return log


@st.composite
def samples(draw, min_subjects=4):
    """Subjects of two or three classes with one to four images each, shuffled."""
    n_classes = draw(st.integers(2, 3))
    counts = [
        draw(st.lists(st.integers(1, 4), min_size=min_subjects, max_size=8))
        for _ in range(n_classes)
    ]
    label_of = np.repeat(np.arange(n_classes), [len(part) for part in counts])
    subjects = np.repeat(np.arange(len(label_of)), np.concatenate(counts))
    subjects = np.random.default_rng(draw(st.integers(0, 99))).permutation(subjects)
    pixels = np.broadcast_to(
        (subjects * SHADES).astype(np.uint8)[:, None, None, None], (len(subjects), 8, 8, 3)
    )
    return pixels.copy(), np.array(["a", "b", "c"])[label_of[subjects]], subjects


def make_hybrid(fine_tune, protocol, stops_network, stops_booster, calibration, seed):
    training = {"max_epochs": 1, "early_stopping": stops_network}
    return HybridClassifier(
        tiny_featurizer(image_size=8, fine_tune=fine_tune, **(training if fine_tune else {})),
        XGBClassifier(n_estimators=2, early_stopping_rounds=2 if stops_booster else None),
        head_protocol=protocol if fine_tune else "in_sample",
        calibration=calibration,
        validation_fraction=0.2,
        random_state=seed,
    )


hybrids = st.builds(
    make_hybrid,
    st.booleans(),
    st.sampled_from(["in_sample", "holdout"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "temperature"]),
    st.integers(0, 99),
)


def assert_parts_are_disjoint(log, clf):
    for trained, stopped, decided, watched in log.hybrids:
        assert not trained & stopped
        assert not decided & watched
        assert not trained & watched
        assert not decided & stopped
        if clf.head_protocol == "holdout":
            assert not trained & decided
        training = clf.featurizer.training
        if training is not None and training.early_stopping:
            assert stopped
        if clf.classifier.early_stopping_rounds or clf.calibration:
            assert watched


@contextmanager
def suppress_few_subjects():
    """Let go what too few subjects lead to: no split, or trees that tell nothing apart."""
    try:
        yield
    except SplitError:
        pass
    except ValueError as error:
        if "constant predictions" not in str(error):
            raise


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.mark.slow
@pytest.mark.parametrize("routing", [False, True], ids=["routing_off", "routing_on"])
@pytest.mark.filterwarnings("ignore:The least populated class")
@settings(max_examples=30, deadline=None, suppress_health_check=QUIET)
@given(samples(), hybrids)
def test_in_one_fit(log, routing, sample, clf):
    X, y, subjects = sample
    log.hybrids.clear()
    with config_context(enable_metadata_routing=routing):
        try:
            clf.fit(X, y, groups=subjects)
        except SplitError:
            return
    (parts,) = log.hybrids
    assert set().union(*parts) == set(subjects.tolist())
    assert_parts_are_disjoint(log, clf)


@pytest.mark.filterwarnings("ignore:The least populated class")
@settings(max_examples=20, deadline=None, suppress_health_check=QUIET)
@given(samples(), st.integers(0, 99))
def test_splits_of_a_network_alone_keep_subjects_together(log, sample, seed):
    X, y, subjects = sample
    log.tunings.clear()
    cnn = CNNClassifier(
        tiny_featurizer(image_size=8, fine_tune=True, max_epochs=1, early_stopping=True),
        random_state=seed,
    )
    try:
        cnn.fit(ImageSequence(X, groups=subjects), y)
    except SplitError:
        return
    ((trained, stopped),) = log.tunings
    assert trained
    assert stopped
    assert not trained & stopped


def nested_search(clf):
    grid = {"classifier__max_depth": [1, 2]}
    return GridSearchCV(clf, grid, cv=SubjectKFold(2), error_score="raise")


WRAPPERS = {
    "search": nested_search,
    "pipeline": lambda clf: make_pipeline(FunctionTransformer(), clf),
    "calibrated": lambda clf: CalibratedClassifierCV(clf, cv=SubjectKFold(2)),
    "stacking": lambda clf: StackingClassifier(
        [("hybrid", clf)], LogisticRegression(), cv=SubjectKFold(2)
    ),
    "threshold": lambda clf: TunedThresholdClassifierCV(clf, cv=SubjectKFold(2)),
    "nested search": lambda clf: nested_search(make_pipeline(clf)).set_params(
        param_grid={"hybridclassifier__classifier__max_depth": [1]}
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("routing", [False, True], ids=["routing_off", "routing_on"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.filterwarnings("ignore:The least populated class")
@settings(max_examples=6, deadline=None, suppress_health_check=QUIET)
@given(samples(min_subjects=7), hybrids)
def test_in_fits_inside_of_others(log, routing, wrapper, sample, clf):
    X, y, subjects = sample
    if wrapper == "threshold":
        y = np.where(y == "c", "b", y)  # it knows two classes
    log.hybrids.clear()
    log.leaks.clear()
    model = WRAPPERS[wrapper](clf)
    images = ImageSequence(X, groups=subjects)
    with config_context(enable_metadata_routing=routing):
        # StackingClassifier hands groups to its final estimator: images carry them there, too.
        by_routing = routing and wrapper != "stacking"
        options = {"params": {"groups": subjects}} if by_routing else {}
        with suppress_few_subjects():
            cross_validate(
                model,
                X if by_routing else images,
                y,
                cv=SubjectKFold(2),
                error_score="raise",
                **options,
            )
    assert not log.leaks
    assert_parts_are_disjoint(log, clf)


def test_the_log_would_see_a_leak(log):
    """Folds by image tear subjects apart, and the log says so."""
    subjects = np.repeat(np.arange(8), 4)
    X = np.broadcast_to((subjects * SHADES).astype(np.uint8)[:, None, None, None], (32, 8, 8, 3))
    y = np.array(["a", "b"])[subjects % 2]
    clf = make_hybrid(True, "in_sample", False, False, None, 0)
    cv = StratifiedKFold(2, shuffle=True, random_state=0)
    cross_val_predict(clf, ImageSequence(X.copy(), groups=subjects), y, cv=cv)
    assert log.leaks


def shaded(n_subjects=12, n_images=3):
    """Images whose noise differs, and whose shade is that of their subject; labels; subjects."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(n_subjects), n_images)
    X = rng.integers(0, 120, (len(subjects), 24, 24, 3)) + 10 * subjects[:, None, None, None]
    return X.astype(np.uint8), np.array(["a", "b"])[subjects % 2], subjects


@pytest.mark.parametrize("grouped", [False, True])
def test_listed_folds_keep_their_images_where_images_are_equal(grouped):
    X, y, subjects = shaded()
    X[5] = X[4]
    folds = subject_folds(y, subjects, 3, random_state=0)
    RecordedRegression.fits.clear()
    featurizer = tiny_featurizer()
    clf = HybridClassifier(featurizer, CalibratedClassifierCV(RecordedRegression(), cv=folds))
    clf.fit(X, y, groups=subjects if grouped else None)
    features = clf.transform(X)
    for seen, (train, _) in zip(RecordedRegression.fits, folds, strict=True):
        np.testing.assert_array_equal(seen, features[train])


@pytest.mark.parametrize("cv", ["folds", "predefined"])
@pytest.mark.parametrize("change", ["weight", "calibration"])
def test_listed_folds_of_other_images_are_refused(cv, change):
    X, y, subjects = shaded()
    folds = subject_folds(y, subjects, 3, random_state=0)
    if cv == "predefined":
        of_image = np.empty(len(y), int)
        for k, (_, test) in enumerate(folds):
            of_image[test] = k
        folds = PredefinedSplit(of_image)
    clf = HybridClassifier(
        tiny_featurizer(), CalibratedClassifierCV(LogisticRegression(), cv=folds), random_state=0
    )
    weight = np.ones(len(y))
    if change == "weight":
        weight[5] = 0
    else:
        clf.set_params(calibration="temperature")
    with pytest.raises(SplitError, match=r"lists positions, but it is fitted on \d+ of the 36"):
        clf.fit(X, y, groups=subjects, sample_weight=weight)
