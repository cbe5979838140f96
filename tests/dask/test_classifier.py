import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

import effboost
import effboost.dask
from common.networks import TinyNet, tiny_featurizer
from effboost import HybridClassifier, ImageSequence
from effboost.dask import DaskHybridClassifier
from effboost.exceptions import DroppedRowsWarning, LeakageError, UnsupportedInputError


def booster(**params):
    return XGBClassifier(**({"n_estimators": 5, "max_depth": 3} | params))


def both(head, **params):
    """A local hybrid, and the same for the cluster."""
    local = HybridClassifier(tiny_featurizer(), head, random_state=0, **params)
    return local, DaskHybridClassifier.from_local(local)


def test_on_one_worker_the_head_of_xgboost_is_the_local_one(client, X, cells):
    local, clf = both(booster(), class_weight={"blast": 3, "healthy": 1, "other": 1})
    clf.fit(X, "label", groups="subject")
    local.fit(list(cells.path), cells.label, groups=cells.subject)
    proba = clf.predict_proba(X)
    assert proba.shape[1] == 3
    np.testing.assert_allclose(proba.compute(), local.predict_proba(list(cells.path)), rtol=1e-5)
    assert clf.predict(X).compute().tolist() == cells.label.tolist()
    np.testing.assert_allclose(clf.feature_means_, local.feature_means_)
    assert clf.evals_result_["train"].keys() == local.evals_result_["train"].keys()
    np.testing.assert_allclose(
        clf.evals_result_["train"]["mlogloss"], local.evals_result_["train"]["mlogloss"], rtol=1e-5
    )
    np.testing.assert_array_equal(clf.transform(X).compute(), local.transform(list(cells.path)))


def test_a_fitted_one_is_saved_as_its_local_counterpart(client, X, cells, tmp_path):
    _, clf = both(booster())
    local = clf.fit(X, "label").to_local()
    assert type(local) is HybridClassifier
    again = effboost.load(effboost.save(local, tmp_path / "model.effboost"), backbone=TinyNet)
    expected = clf.predict_proba(X).compute()
    np.testing.assert_array_equal(again.predict_proba(list(cells.path)), expected)
    # What was loaded predicts on the cluster.
    back = DaskHybridClassifier.from_local(again, client=client)
    np.testing.assert_array_equal(back.predict_proba(X).compute(), expected)


@pytest.mark.parametrize("labels", [[3, 7], [True, False], ["b", "a"]])
def test_labels_of_any_kind(client, cells, labels):
    y = np.array(labels)[np.arange(60) % 2]
    paths = da.from_array(cells.path.to_numpy(dtype=object), chunks=25)
    _, clf = both(booster())
    clf.fit(paths, da.from_array(y, chunks=10))
    predicted = clf.predict(paths)
    assert predicted.dtype == y.dtype
    assert set(predicted.compute().tolist()) <= set(labels)
    table = clf.predict_table(paths).compute()
    assert table["class"].tolist() == predicted.compute().tolist()
    assert table.columns.tolist()[4:] == [f"p_{label}" for label in sorted(labels)] + ["reason"]


def test_early_stopping_splits_by_subject_like_the_local_one(client, X, cells):
    local, clf = both(booster(n_estimators=30, early_stopping_rounds=2), validation_fraction=0.3)
    clf.fit(X, "label", groups="subject")
    local.fit(list(cells.path), cells.label, groups=cells.subject)
    assert clf.evals_result_.keys() == {"train", "validation"}
    assert clf.classifier_.best_iteration == local.classifier_.best_iteration
    np.testing.assert_allclose(
        clf.predict_proba(X).compute(), local.predict_proba(list(cells.path)), rtol=1e-5
    )


def test_validation_images_of_their_own(client, cells):
    _, clf = both(booster())
    train, held_out = (dd.from_pandas(part, npartitions=2) for part in (cells[:42], cells[42:]))
    subjects = {"groups": "subject", "groups_val": "subject"}
    clf.fit(train, "label", X_val=held_out, y_val="label", **subjects)
    assert len(clf.evals_result_["validation"]["mlogloss"]) == 5
    with pytest.raises(LeakageError):
        clf.fit(train, "label", X_val=train, y_val="label", **subjects)


def test_the_subjects_of_a_sequence_of_images_are_used(client, cells):
    local, clf = both(booster(n_estimators=30, early_stopping_rounds=2), validation_fraction=0.3)
    images = ImageSequence(cells.path, groups=cells.subject)
    clf.fit(images, cells.label)
    local.fit(images, cells.label)
    assert clf.classifier_.best_iteration == local.classifier_.best_iteration
    np.testing.assert_allclose(
        clf.predict_proba(images).compute(), local.predict_proba(images), rtol=1e-5
    )
    with pytest.raises(LeakageError):
        clf.fit(images[:40], cells.label[:40], X_val=images[35:], y_val=cells.label[35:])


def test_partitions_are_those_of_the_table_whatever_columns_are_read(client, cells, tmp_path):
    """Dask's optimiser joins files of which few columns are read."""
    wide = cells.assign(site="a", age=1.0, sex="f")
    for i in range(10):
        wide[6 * i : 6 * i + 6].to_parquet(tmp_path / f"{i}.parquet")
    X = dd.read_parquet(tmp_path)
    some = X[X.path != cells.path[3]]
    local, clf = both(booster())
    clf.fit(some, "label", groups="subject")
    rest = cells.drop(index=3)
    local.fit(list(rest.path), rest.label, groups=rest.subject)
    found = clf.predict_table(some)
    assert found.npartitions == 10
    found = found.compute()
    assert found.path.tolist() == list(rest.path)
    assert found.partition.tolist() == [i // 6 for i in range(60) if i != 3]
    np.testing.assert_allclose(
        found.iloc[:, 4:7].to_numpy(), local.predict_proba(list(rest.path)), rtol=1e-5
    )


def test_a_data_frame_of_pandas_is_read_by_its_columns(client, X, cells):
    _, clf = both(booster())
    clf.fit(cells, "label", groups="subject")
    expected = clf.predict_proba(X).compute()
    np.testing.assert_array_equal(clf.predict_proba(cells).compute(), expected)
    assert clf.score(cells, "label") == clf.score(X, "label") == 1
    weight = np.arange(60) % 2.0
    wrong = np.where(np.arange(60) < 20, "other", cells.label)
    expected = accuracy_score(wrong, cells.label, sample_weight=weight)
    assert clf.score(X, wrong, sample_weight=weight) == pytest.approx(expected)


def test_a_prediction_on_its_own_is_computed(client, cells):
    local, clf = both(booster())
    local.fit(list(cells.path), cells.label)
    clf = DaskHybridClassifier.from_local(local)
    paths = list(cells.path[:5])
    expected = local.predict_proba(paths)
    for function in (effboost.iter_predictions, effboost.dask.iter_predictions):
        found = list(function(clf, paths))
        np.testing.assert_array_equal([p.probabilities for p in found], expected)
    np.testing.assert_array_equal(effboost.predict_images(clf, paths).probabilities, expected)


def test_images_of_weight_0_are_left_out(client, X, cells):
    _, clf = both(booster())
    weight = np.where(np.arange(60) < 30, 0.0, 2.0)
    clf.fit(X, "label", sample_weight=weight)
    rest = cells[30:]
    expected = clf.to_local().transform(list(rest.path)).mean(axis=0)
    np.testing.assert_allclose(clf.feature_means_, expected, rtol=1e-5)


def test_a_fine_tuned_network_with_a_head_on_other_subjects(client, X, cells):
    tuned = tiny_featurizer(fine_tune=True, max_epochs=1)
    local = HybridClassifier(tuned, booster(), head_protocol="holdout", random_state=0)
    clf = DaskHybridClassifier.from_local(local).fit(X, "label", groups="subject")
    local.fit(list(cells.path), cells.label, groups=cells.subject)
    np.testing.assert_allclose(clf.feature_means_, local.feature_means_, rtol=1e-6)
    np.testing.assert_array_equal(
        clf.to_local().cnn_.predict(list(cells.path)), local.cnn_.predict(list(cells.path))
    )


@pytest.mark.parametrize(
    ("head", "params"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()), {}),
        (booster(), {"calibration": "temperature", "validation_fraction": 0.3}),
    ],
)
def test_other_heads_are_the_local_ones_to_the_bit(client, X, cells, head, params):
    local, clf = both(head, **params)
    clf.fit(X, "label", groups="subject")
    local.fit(list(cells.path), cells.label, groups=cells.subject)
    np.testing.assert_array_equal(
        clf.predict_proba(X).compute(), local.predict_proba(list(cells.path))
    )


def test_other_heads_are_fitted_on_a_stated_sample(client, X):
    _, clf = both(LogisticRegression())
    clf.set_params(sample_size=20)
    with pytest.warns(UserWarning, match="LogisticRegression is fitted on a sample of 20 of 60"):
        clf.fit(X, "label")
    with pytest.warns(UserWarning, match="sample of 18 of 60 images, drawn by subject"):
        clf.fit(X, "label", groups="subject")


def test_views_are_averaged_by_either_route(client, X, cells):
    for averaging in ("features", "probabilities"):
        featurizer = tiny_featurizer(views="dihedral")
        local = HybridClassifier(featurizer, booster(), view_averaging=averaging, random_state=0)
        clf = DaskHybridClassifier.from_local(local).fit(X, "label")
        local.fit(list(cells.path), cells.label)
        np.testing.assert_allclose(
            clf.predict_proba(X).compute(), local.predict_proba(list(cells.path)), rtol=1e-5
        )


@pytest.fixture(scope="module")
def fitted(client, X):
    return both(booster())[1].fit(X, "label", groups="subject")


def test_predictions_and_rejects_are_written_as_parquet(fitted, cells, tmp_path):
    damaged = cells.path.tolist()
    for i in (3, 40):
        damaged[i] = str(tmp_path / f"damaged_{i}.png")
        (tmp_path / f"damaged_{i}.png").write_bytes(b"no image")
    X = dd.from_pandas(pd.DataFrame({"path": damaged}), npartitions=4)
    with pytest.warns(DroppedRowsWarning, match="2 of 60 images could not be read"):
        rejects = fitted.predict_to_parquet(X, tmp_path / "out", on_error="skip")
    assert [(r.path, r.partition, r.position) for r in rejects] == [
        (damaged[3], 0, 3),
        (damaged[40], 2, 10),
    ]
    table = pd.read_parquet(tmp_path / "out")
    assert table.path.tolist() == damaged
    assert np.flatnonzero(table["class"].isna()).tolist() == [3, 40]
    assert np.flatnonzero(table.reason.notna()).tolist() == [3, 40]
    good = np.delete(np.arange(60), [3, 40])
    shares = table.iloc[good, 4:7].to_numpy()
    expected = fitted.to_local().predict_proba(cells.path.to_numpy()[good])
    np.testing.assert_array_equal(shares, expected.astype(np.float64))
    with pytest.raises(FileExistsError, match="is not empty"):
        fitted.predict_to_parquet(X, tmp_path / "out")
    with pytest.raises(effboost.exceptions.ImageDecodeError, match="damaged_"):
        fitted.predict_to_parquet(X, tmp_path / "other")
    with pytest.raises(ValueError, match="on_error='ignore'"):
        fitted.predict_table(X, on_error="ignore")


def test_heads_without_probabilities(client, X, cells):
    from sklearn.svm import LinearSVC

    _, clf = both(make_pipeline(StandardScaler(), LinearSVC()))
    clf.fit(X, "label")
    assert not hasattr(clf, "predict_proba")
    scores = clf.decision_function(X)
    assert scores.shape[1] == 3
    np.testing.assert_array_equal(
        scores.compute(), clf.to_local().decision_function(list(cells.path))
    )
    assert clf.predict_table(X).columns.tolist() == [
        *("path", "partition", "position", "class", "reason")
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_sample_has_all_classes(client, X, cells, seed):
    """A class of one subject among twenty is drawn, and its network's head knows it."""
    rare = np.where(cells.subject == "S7", "rare", cells.label)
    _, clf = both(LogisticRegression())
    clf.set_params(sample_size=24, random_state=seed)
    with pytest.warns(UserWarning, match="sample of 24 of 60"):
        clf.fit(X, rare, groups="subject")
    assert clf.classes_.tolist() == ["blast", "healthy", "other", "rare"]
    whole = np.where(np.arange(60) < 30, "a", "b")
    clf.set_params(sample_size=20)
    with pytest.raises(UnsupportedInputError, match=r"sample_size=20 leaves out the class '[ab]'"):
        clf.fit(X, whole, groups=whole)


def test_missing_arguments_are_named(client, X, cells):
    _, clf = both(booster())
    for arguments in ({"y_val": cells.label}, {"X_val": X}):
        with pytest.raises(UnsupportedInputError, match="only one of X_val and y_val"):
            clf.fit(X, "label", **arguments)
    with pytest.raises(UnsupportedInputError, match="y is missing"):
        clf.fit(X, None)
    with pytest.raises(UnsupportedInputError, match="X is empty"):
        clf.fit(X[X.label == "none"], "label")


def test_partitions_must_match(client, X, cells):
    _, clf = both(booster())
    with pytest.raises(UnsupportedInputError, match="y has 2 partitions, and X 4"):
        clf.fit(X, dd.from_pandas(cells, npartitions=2).label)
    with pytest.raises(UnsupportedInputError, match="y has shape"):
        clf.fit(X, cells.label[:59])
    with pytest.raises(UnsupportedInputError, match="not the name of a column"):
        clf.fit(X, "labels")
    with pytest.raises(UnsupportedInputError, match="one class only"):
        clf.fit(X, np.zeros(60, dtype=int))
    with pytest.raises(UnsupportedInputError, match="is missing"):
        clf.fit(X, [None, *cells.label[1:]])


def test_parameters_are_those_of_the_local_one_and_a_sample_size(client, fitted):
    own, local = DaskHybridClassifier().get_params(), HybridClassifier().get_params()
    assert own.keys() - local.keys() == {"sample_size"}
    twin = clone(fitted)
    assert not hasattr(twin, "classes_")
    assert twin.get_params()["classifier__max_depth"] == 3
