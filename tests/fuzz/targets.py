"""What is fuzzed: reading models, heads, graphs, ONNX files and caches, and decoding images."""

import random
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np

import effboost
from common.exported import tiny_file
from common.heads import features
from common.networks import tiny_featurizer
from effboost import Cache, ImageSequence, OnnxClassifier
from effboost._utils.probabilities import find_fault
from effboost._utils.refusal import RefusedError
from effboost.exceptions import CacheWarning, EffboostError
from effboost.persistence._checks import try_head
from effboost.persistence._heads import read_heads
from effboost.runtime._stored import restore_graph
from fuzz.graphs import change_graph, graph_featurizer, graph_seed
from fuzz.model_seeds import head_seeds, model_seeds
from fuzz.models import change_heads, change_model
from fuzz.mutations import damage
from fuzz.onnx_files import change_onnx

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "persistence" / "golden"
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
# How a case may end. "refused at prediction" is a clear error at the first image.
GOOD = ("refused", "accepted", "refused at prediction")
KNOWN = (*GOOD, "not probabilities", "wrong features", "memory", "crash", "hang")


class Target:
    """Seeds to begin with, and what is done to one and with it."""

    def __init__(self, seeds, change, use):
        self.seeds, self._change, self._use = seeds, change, use

    def warm_up(self, folder):
        """Use each seed as it is, so that no case pays for what is loaded at the first time."""
        for seed in self.seeds:
            result = self._run(seed, folder)
            assert result == "accepted", result

    def run(self, number, folder):
        """Run one case, always the same for one number, and return what came of it.

        Returns
        -------
        str
            One of `KNOWN`, or else a traceback.
        """
        rng = random.Random(number)
        seed = rng.choice(self.seeds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            changed = self._change(seed, rng, self.seeds)
        return self._run(changed, folder)

    def _run(self, seed, folder):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._use(seed, Path(folder))
        except (EffboostError, RefusedError) as error:
            return "memory" if _ran_out_of_memory(error) else "refused"
        except MemoryError:
            return "memory"
        except Exception:
            return traceback.format_exc()


def _ran_out_of_memory(error):
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _use_model(content, folder):
    path = folder / "case.effboost"
    path.write_bytes(content)
    model = effboost.load(path)
    # Of another runtime, the network would be exported, which takes seconds.
    getattr(model, "featurizer_", model)._extractor._choice = "torch"
    try:
        return _predict(model, PICTURES)
    except EffboostError:
        return "refused at prediction"


def _predict(model, samples):
    if not hasattr(model, "predict"):
        return "accepted" if np.isfinite(model.transform(samples)).all() else "not probabilities"
    n_classes = len(model.classes_)
    assert np.isin(model.predict(samples), model.classes_).all()
    if hasattr(model, "predict_proba"):
        fault = find_fault(model.predict_proba(samples), len(samples), n_classes)
        return "accepted" if fault is None else "not probabilities"
    if hasattr(model, "decision_function"):
        finite = np.isfinite(model.decision_function(samples)).all()
        return "accepted" if finite else "not probabilities"
    return "accepted"


def _use_heads(seed, folder):
    description, members, n_classes = seed
    heads = read_heads(description, members)
    # As in Construction, which reads the rest of a model.
    head = heads.get("classifier_")
    if heads.keys() != {"classifier", "classifier_"} or not hasattr(head, "predict"):
        return "refused"
    X = features(30, n_classes, seed=2)[0]
    try_head(head, X.mean(axis=0, dtype=np.float64), n_classes)
    return _predict(head, X)


def _change_heads(seed, rng, others):
    return *change_heads(seed, rng, others), seed[2]


def _use_onnx(content, folder):
    path = folder / "case.onnx"
    path.write_bytes(content)
    effboost.describe_model(path)
    model = OnnxClassifier(path)
    assert len(model.classes_) > 1
    try:
        return _predict(model, PICTURES)
    except EffboostError:
        return "refused at prediction"


def _use_image(seed, folder):
    suffix, content = seed
    path = folder / f"case{suffix}"
    path.write_bytes(content)
    ImageSequence([path]).decode(0)
    return "accepted"


def _change_image(seed, rng, others):
    return seed[0], damage(seed[1], rng, [content for _, content in others]) or b"x"


def _use_graph(content, folder):
    """Load a model file, and predict by its graph if that is not refused."""
    path = folder / "case.effboost"
    path.write_bytes(content)
    featurizer = effboost.load(path)
    extractor = featurizer._extractor
    if extractor._stored is None:
        return "refused"
    # As at the first prediction, where a graph that is refused is replaced, which takes seconds.
    extractor._graph = restore_graph(extractor._stored, extractor._network(), extractor._transform)
    expected = graph_featurizer().transform(PICTURES)
    error = np.abs(featurizer.transform(PICTURES) - expected).max()
    return "accepted" if error <= 0.01 * np.abs(expected).max() else "wrong features"


class _CacheTarget(Target):
    """A cache of features: damage leads to features that are computed again, never to others."""

    def __init__(self):
        self._featurizer = tiny_featurizer().fit(PICTURES)
        self._expected = self._featurizer.transform(PICTURES)
        with tempfile.TemporaryDirectory() as folder:
            self._featurizer.set_params(cache=folder).transform(PICTURES)
            super().__init__([Cache(folder)._file.read_bytes()], _change_cache, self._use_cache)

    def _use_cache(self, content, folder):
        cache = Cache(folder / "cache")
        Path(cache.folder).mkdir(exist_ok=True)
        cache.clear()
        cache._file.write_bytes(content)
        self._featurizer.set_params(cache=cache)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # The second time, it finds what the first one wrote.
            right = [
                np.array_equal(self._featurizer.transform(PICTURES), self._expected)
                for _ in range(2)
            ]
        if not all(right):
            return "wrong features"
        return "refused" if any(w.category is CacheWarning for w in caught) else "accepted"


def _change_cache(content, rng, others):
    if rng.random() < 0.1:
        return damage(content, rng, others)
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _make_models():
    golden = [path.read_bytes() for path in sorted(GOLDEN.glob("*.effboost"))]
    return Target([*golden, *model_seeds()], change_model, _use_model)


def _make_images():
    seeds = [(path.suffix, path.read_bytes()) for path in sorted((HERE / "seeds").iterdir())]
    return Target(seeds, _change_image, _use_image)


TARGETS = {
    "load": _make_models,
    "heads": lambda: Target(head_seeds(), _change_heads, _use_heads),
    "graph": lambda: Target([graph_seed()], change_graph, _use_graph),
    "onnx": lambda: Target([tiny_file()], change_onnx, _use_onnx),
    "images": _make_images,
    "cache": _CacheTarget,
}


def run_cases(name, numbers):
    """Run cases in this process, and return what came of each, by number."""
    target = TARGETS[name]()
    with tempfile.TemporaryDirectory() as folder:
        return {number: target.run(number, folder) for number in numbers}
