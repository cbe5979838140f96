"""Estimators in several threads of one process give what they give alone."""

import copy
import pickle
import threading
import warnings

import joblib
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from torch import nn

from common.networks import TinyNet, tiny_featurizer
from effboost import CNNClassifier, HybridClassifier
from effboost._extraction import feature_extractor
from effboost._transforms import ImageTransform
from effboost.backbones import append_stages, get_backbone_spec, remove_head
from effboost.runtime import TorchRuntime, export_graph, fused


class DroppingNet(TinyNet):
    """A network whose training draws from torch's generator in each step."""

    def __init__(self):
        super().__init__()
        self.features.insert(3, nn.Dropout(0.5))


def run_together(*targets):
    """Run functions in a thread each; return their results, in order."""
    results, errors = [None] * len(targets), []
    barrier = threading.Barrier(len(targets))

    def work(place, target):
        try:
            barrier.wait(10)
            results[place] = target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=item) for item in enumerate(targets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]
    return results


def weights_of(fitted):
    return torch.cat([p.detach().flatten() for p in fitted.module_.parameters()])


def test_concurrent_fits_with_different_seeds_give_the_same_weights_as_single_fits(
    pixels, three_classes
):
    def fit(seed):
        featurizer = tiny_featurizer(
            backbone=DroppingNet, fine_tune=True, max_epochs=6, batch_size=4, random_state=seed
        )
        return weights_of(featurizer.fit(pixels, three_classes))

    alone = [fit(seed) for seed in range(3)]
    before = torch.get_rng_state()
    together = run_together(*(lambda seed=seed: fit(seed) for seed in range(3)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["hybrid", "cnn"])
def test_cross_validation_in_threads_is_that_in_turn(pixels, three_classes, kind):
    featurizer = tiny_featurizer(backbone=DroppingNet, fine_tune=True, max_epochs=3, batch_size=4)
    clf = CNNClassifier(featurizer, random_state=0)
    if kind == "hybrid":
        clf = HybridClassifier(featurizer, LogisticRegression(), random_state=0)
    options = {"cv": 4, "method": "predict_proba"}
    in_turn = cross_val_predict(clf, pixels, three_classes, **options)
    with joblib.parallel_config(backend="threading"):
        in_threads = cross_val_predict(clf, pixels, three_classes, n_jobs=4, **options)
    np.testing.assert_array_equal(in_threads, in_turn)


@pytest.mark.parametrize("runtime", ["torch", "auto"])
def test_first_predictions_of_several_models_at_once(pixels, runtime):
    models = [
        tiny_featurizer(runtime=runtime, **settings).fit(pixels)
        for settings in ({"backbone": DroppingNet}, {"extra_features": "stages"})
    ]
    expected = [copy.deepcopy(model).set_params(runtime="torch") for model in models]
    feature_extractor._GRAPHS.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a fallback to torch is a warning
        found = run_together(*(lambda m=model: m.transform(pixels[:2]) for model in models))
    for rows, model in zip(found, expected, strict=True):
        np.testing.assert_allclose(rows, model.fit(pixels).transform(pixels[:2]), rtol=1e-4)


def test_first_predictions_of_one_model_export_it_once(pixels, monkeypatch):
    model = pickle.loads(pickle.dumps(tiny_featurizer(runtime="onnxruntime").fit(pixels)))
    feature_extractor._GRAPHS.clear()
    exports = []

    def count(*arguments):
        exports.append(1)
        return export_graph(*arguments)

    monkeypatch.setattr(feature_extractor, "export_graph", count)
    found = run_together(*[lambda: model.transform(pixels[:3])] * 4)
    assert len(exports) == 1
    assert all(np.array_equal(rows, found[0]) for rows in found)


def test_networks_run_while_others_are_traced_and_exported():
    def build(kind=TinyNet):
        return remove_head(kind().eval(), get_backbone_spec(kind))

    call = nn.Module.__call__
    transform = ImageTransform(None, 24)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3), dtype=np.uint8)
    runtime = TorchRuntime(build(), transform, torch.device("cpu"))
    expected = runtime.run(pixels)
    shared = build()  # one network in several threads

    def run():
        return [runtime.run(pixels) for _ in range(300)]

    def trace():
        for _ in range(10):
            fused(shared)
            fused(append_stages(shared, get_backbone_spec(TinyNet), "stages", 24))

    found, *_ = run_together(run, trace, trace, lambda: export_graph(shared, transform))
    assert all(np.array_equal(rows, expected) for rows in found)
    assert nn.Module.__call__ is call
