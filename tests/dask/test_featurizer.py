import pickle
import warnings
from pathlib import Path

import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from PIL import ImageOps
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from common.networks import tiny_featurizer
from effboost import ImageFeaturizer, ImageSequence
from effboost.dask import DaskImageFeaturizer, _model
from effboost.dask._columns import as_paths
from effboost.exceptions import DroppedRowsWarning, ImageDecodeError, UnsupportedInputError


@pytest.fixture(scope="module")
def local(cells):
    return tiny_featurizer().fit(list(cells.path))


@pytest.fixture(scope="module")
def expected(local, cells):
    return local.transform(list(cells.path))


def test_features_are_the_local_ones_whatever_form_the_paths_have(
    client, local, expected, cells, tmp_path
):
    paths = cells.path.to_numpy(dtype=object)
    file = tmp_path / "cells.parquet"
    cells.to_parquet(file)
    featurizer = DaskImageFeaturizer.from_local(local)
    for X in (
        dd.from_pandas(cells, npartitions=4),
        dd.from_pandas(cells[["path"]].rename(columns={"path": "file"}), npartitions=2),
        dd.from_pandas(cells, npartitions=4).path,
        db.from_sequence(map(Path, paths), npartitions=3),
        da.from_array(paths, chunks=25),
        file,
        list(paths),
        cells.path,
        ImageSequence(cells.path),
    ):
        features = featurizer.transform(X)
        assert features.shape[1] == expected.shape[1]
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features.compute(), expected)


def test_a_parquet_file_is_split(client, local, tmp_path):
    names = pd.DataFrame({"path": [f"cell_{i}.png" for i in range(50_000)]})
    names.to_parquet(tmp_path / "cells.parquet")
    features = DaskImageFeaturizer.from_local(local).transform(tmp_path / "cells.parquet")
    assert features.npartitions == pytest.approx(50_000 / 256, abs=1)
    # Neither the model nor the paths are in the graph.
    assert len(pickle.dumps(features.__dask_graph__())) < 1e6


def test_nothing_is_read_before_it_is_needed_and_errors_name_the_path(client, local, cells):
    featurizer = DaskImageFeaturizer.from_local(local)
    features = featurizer.transform(["missing.png"])
    with pytest.raises(ImageDecodeError, match=r"missing\.png"):
        features.compute()


def test_a_process_loads_a_model_once(client, X):
    before = set(_model._LOADED)
    features = DaskImageFeaturizer.from_local(tiny_featurizer(random_state=5)).fit_transform(X)
    assert set(_model._LOADED) == before
    first = features.compute()
    (name,) = set(_model._LOADED) - before
    model = _model._LOADED[name]
    assert type(model) is ImageFeaturizer
    np.testing.assert_array_equal(features.compute(), first)
    assert _model._LOADED[name] is model


def test_tasks_run_in_one_thread_each(client, X):
    """Each thread of a worker runs a task of its own."""
    featurizer = DaskImageFeaturizer.from_local(tiny_featurizer(runtime="onnxruntime")).fit(X)
    _model._LOADED.clear()
    featurizer.transform(X).compute()
    (model,) = _model._LOADED.values()
    assert model._extractor._runtime.n_workers == 1


def test_a_frozen_network_is_loaded_without_reading(client):
    featurizer = DaskImageFeaturizer.from_local(tiny_featurizer()).fit(["missing.png"])
    assert featurizer._n_features_out == 8
    assert featurizer.to_local().get_params() == tiny_featurizer().get_params()


def test_the_network_is_fine_tuned_on_a_sample_of_whole_subjects(client, X, cells):
    tuned = tiny_featurizer(fine_tune=True, max_epochs=1)
    featurizer = DaskImageFeaturizer.from_local(tuned).set_params(sample_size=31)
    with pytest.warns(UserWarning, match="fine-tuned on a sample of 30 of 60 images.*by subject"):
        featurizer.fit(X, "label", groups="subject")
    assert featurizer.history_[0]["train_loss"] > 0
    with pytest.raises(UnsupportedInputError, match="needs y"):
        featurizer.fit(X)
    featurizer.set_params(sample_size=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = featurizer.fit_transform(X, "label", groups="subject").compute()
    expected = tuned.fit(list(cells.path), cells.label, groups=cells.subject)
    np.testing.assert_array_equal(features, expected.transform(list(cells.path)))


def test_parameters_are_those_of_the_local_one_and_a_sample_size(client, X):
    featurizer = DaskImageFeaturizer()
    own, local = featurizer.get_params(), ImageFeaturizer().get_params()
    assert own.keys() - local.keys() == {"sample_size"}
    assert clone(featurizer.set_params(training__lr=0.5)).get_params()["training__lr"] == 0.5
    with pytest.raises(NotFittedError):
        featurizer.transform(X)
    with pytest.raises(ValueError, match="sample_size"):
        DaskImageFeaturizer.from_local(tiny_featurizer()).set_params(sample_size=0).fit(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (3, "got int; X can be a Dask dataframe"),
        (np.zeros((2, 8, 8, 3), dtype=np.uint8), "got ndarray"),
        (dd.from_pandas(pd.DataFrame({"a": ["1"], "b": ["2"]}), npartitions=1), r"\['a', 'b'\]"),
    ],
)
def test_other_forms_are_refused(client, local, X, message):
    with pytest.raises(UnsupportedInputError, match=message):
        DaskImageFeaturizer.from_local(local).transform(X)


@pytest.mark.parametrize(
    "change",
    [
        lambda paths: ImageSequence(paths, boxes=[[0, 0, 12, 12]] * len(paths)),
        lambda paths: ImageSequence(paths, frame=20),
        lambda paths: ImageSequence(paths, white_level=4095),
        lambda paths: ImageSequence(paths).map(ImageOps.invert),
        lambda paths: ImageSequence(np.zeros((2, 32, 32, 3), dtype=np.uint8)),
    ],
)
def test_images_that_a_path_does_not_describe_are_refused(client, local, cells, change):
    with pytest.raises(UnsupportedInputError, match=r"effboost\.dask\.iter_predictions"):
        DaskImageFeaturizer.from_local(local).transform(change(list(cells.path[:2])))


def test_signatures_of_urls_reach_the_workers():
    urls = ["https://user:word@host/x.png?signature=1", "memory://cells/y.png"]
    assert as_paths(ImageSequence(urls)[1:]).compute().tolist() == urls[1:]
    assert as_paths(ImageSequence(urls)).compute().tolist() == urls


def test_what_is_no_path_is_refused_when_it_is_read(client, local):
    features = DaskImageFeaturizer.from_local(local).transform(da.from_array(np.arange(3)))
    with pytest.raises(UnsupportedInputError, match="got int64 at position 0 of a partition"):
        features.compute()


def test_features_and_rejects_are_written_as_parquet(client, local, expected, cells, tmp_path):
    damaged = cells.path.tolist()
    damaged[7] = str(tmp_path / "damaged.png")
    (tmp_path / "damaged.png").write_bytes(b"no image")
    featurizer = DaskImageFeaturizer.from_local(local)
    with pytest.warns(DroppedRowsWarning, match="1 of 60 images could not be read"):
        rejects = featurizer.transform_to_parquet(damaged, tmp_path / "out", on_error="skip")
    assert [(r.path, r.partition, r.position) for r in rejects] == [(damaged[7], 0, 7)]
    table = pd.read_parquet(tmp_path / "out")
    assert table.path.tolist() == damaged
    features = table[local.get_feature_names_out()].to_numpy()
    assert np.isnan(features[7]).all()
    np.testing.assert_array_equal(np.delete(features, 7, 0), np.delete(expected, 7, 0))
    with pytest.raises(ImageDecodeError, match=r"damaged\.png"):
        featurizer.transform_to_parquet(damaged, tmp_path / "other")
