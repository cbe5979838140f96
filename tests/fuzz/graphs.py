"""Model files whose exported graph was changed, by somebody who repairs its hash."""

import tempfile
from functools import cache
from pathlib import Path

import effboost
from common.model_files import read_members, write_members
from effboost.datasets import make_blood_cells
from effboost.persistence._archive import digest
from effboost.persistence._graph import GRAPH
from effboost.runtime._stored import cut_weights
from fuzz.model_seeds import make_featurizer
from fuzz.mutations import change_json, damage
from fuzz.onnx_files import change_onnx

__all__ = ["change_graph", "graph_featurizer", "graph_seed"]


@cache
def graph_featurizer():
    """Return a small network that was exported."""
    featurizer = make_featurizer("onnxruntime")
    cells = make_blood_cells(n_subjects=2, images_per_subject=2, image_size=32, random_state=0)
    featurizer.fit(cells.images).transform(cells.images)
    return featurizer


def graph_seed():
    """Return its file, which has the graph without the weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = effboost.save(graph_featurizer(), Path(folder, "model.effboost"))
        return path.read_bytes()


def change_graph(content, rng, others):
    """Change the graph and cut its weights out again; or change its description or its rest."""
    manifest, members = read_members(content)
    model = manifest["model"]
    kind = rng.choice(["graph", "graph", "graph", "description", "rest", "weights"])
    if kind == "graph":
        extractor = graph_featurizer()._extractor
        graph = change_onnx(extractor.graph(), rng, others)
        rest, cuts = cut_weights(graph, extractor._network(), extractor._transform)
        members[GRAPH] = rest
        model["graph"] = {"cuts": [list(cut) for cut in cuts], "sha256": digest(graph)}
    elif kind == "description":
        model["graph"] = change_json(model["graph"], rng)
    elif kind == "weights":
        cuts = model["graph"]["cuts"]
        one, other = rng.randrange(len(cuts)), rng.randrange(len(cuts))
        cuts[one][1], cuts[other][1] = cuts[other][1], cuts[one][1]
    else:
        members[GRAPH] = damage(members[GRAPH], rng, others) or b"x"
    return write_members(manifest, members)
