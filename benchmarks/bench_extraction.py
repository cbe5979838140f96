"""How fast are features of images in memory computed on a CPU?"""

import numpy as np
import onnxruntime
import openvino
import timm
import torch
from _common import (
    calibrated,
    export_float,
    frozen_featurizer,
    interleaved_seconds,
    make_parser,
    report,
    without_head,
)

from effboost.datasets import make_blood_cells


def batched(run, batch_size, X):
    return np.concatenate([run(X[i : i + batch_size]) for i in range(0, len(X), batch_size)])


def torch_runner(network, memory_format=torch.contiguous_format):
    network = network.to(memory_format=memory_format)

    def run(x):
        with torch.inference_mode():
            return network(x.to(memory_format=memory_format)).numpy()

    return run


def onnxruntime_runner(graph):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x.numpy()})[0]


def openvino_runner(graph):
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(core.read_model(graph), "CPU", settings)
    return lambda x: model([x.numpy()])[0].copy()


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--weights", default="none", help='"imagenet", "none" or a file')
    parser.add_argument("--timm", default="efficientnet_b0", help="the same network in timm")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile, too: minutes")
    options = parser.parse_args()
    side = 224
    if options.small:
        options.images, options.rounds, side = 16, 1, 64
    X = make_blood_cells(4, -(-options.images // 4), image_size=side, random_state=0).images
    network = calibrated(
        options.backbone, side, None if options.weights == "none" else options.weights
    )
    body = without_head(network)
    ready = torch.from_numpy(X).permute(0, 3, 1, 2).float().div(255).contiguous()
    graph = export_float(without_head(network), side)
    eager, ort, ov = torch_runner(body), onnxruntime_runner(graph), openvino_runner(graph)
    last = torch_runner(without_head(network), torch.channels_last)
    timm_eager = torch_runner(timm.create_model(options.timm, num_classes=0).eval())
    contenders = {f"torchvision, batch {b}": (eager, b) for b in (1, 8, 32)}
    contenders["torchvision, channels last, batch 8"] = last, 8
    contenders["timm, batch 32 (its own features)"] = timm_eager, 32
    contenders |= {f"raw onnxruntime, batch {b}": (ort, b) for b in (1, 4, 8, 32)}
    contenders |= {f"raw openvino, batch {b}": (ov, b) for b in (1, 8)}
    if options.compile:
        compiled = torch.compile(without_head(network))
        contenders["torch.compile, batch 8"] = torch_runner(compiled), 8
    runs = {
        name: lambda run=run, b=b: batched(run, b, ready) for name, (run, b) in contenders.items()
    }
    for name in ("torch", "openvino", "onnxruntime"):
        featurizer = frozen_featurizer(network, side, runtime=name).fit(X)
        featurizer.transform(X[:2])
        runs[f"effboost, {name}"] = lambda featurizer=featurizer: featurizer.transform(X)
    same = onnxruntime_runner(featurizer._extractor.graph())
    pixels = torch.from_numpy(X)
    runs["onnxruntime, effboost's graph"] = lambda: batched(same, 1, pixels)
    expected = runs["torchvision, batch 1"]()
    found = {name: run() for name, run in runs.items()}
    seconds = interleaved_seconds(runs, options.rounds)
    best = min(s for name, s in seconds.items() if name.startswith("raw onnxruntime"))
    on_same = seconds["onnxruntime, effboost's graph"]
    rows = [
        {
            "contender": name,
            "images/s": len(X) / seconds[name],
            "to eager 32": seconds["torchvision, batch 32"] / seconds[name],
            "to eager 1": seconds["torchvision, batch 1"] / seconds[name],
            "to best raw onnxruntime": best / seconds[name],
            "to it on effboost's graph": on_same / seconds[name],
            "relative error": float(np.abs(found[name] - expected).max() / np.abs(expected).max()),
        }
        for name in runs
    ]
    report("extraction", __doc__, rows)


if __name__ == "__main__":
    main()
