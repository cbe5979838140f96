"""Which steps take the time of an image, and how close are they to the machine's peak?"""

import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from _common import calibrated, frozen_featurizer, make_parser, report, write_cells
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from effboost._transforms import ImageTransform
from effboost.runtime import export_graph


def best_of(run, times):
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def profile(graph, pixels, folder):
    """Measure the milliseconds per image of each kind of node, on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(folder) / "profile")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    for i in range(len(pixels)):
        session.run(None, {"pixels": pixels[i : i + 1]})
    events = json.loads(Path(session.end_profiling()).read_text())
    spent = Counter()
    for event in events:
        name = event["args"].get("op_name") if event.get("cat") == "Node" else None
        if name and event["name"].endswith("_kernel_time"):
            spent[name] += event["dur"] / 1000 / len(pixels)
    return spent


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=64)
    options = parser.parse_args()
    side, original, size, times = 224, 450, 2048, 10
    if options.small:
        options.images, side, original, size, times = 8, 64, 96, 256, 2
    network = calibrated("efficientnet_b0", side)
    featurizer = frozen_featurizer(network, side).fit(np.zeros((1, side, side, 3), np.uint8))
    body = featurizer.module_
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        body(torch.zeros(1, 3, side, side))
    weights = 4 * sum(p.numel() for p in body.parameters())
    moved = []
    hooks = [
        part.register_forward_hook(
            lambda part, inputs, out: moved.append(4 * (inputs[0].numel() + out.numel()))
        )
        for part in body.modules()
        if isinstance(part, torch.nn.Conv2d)
    ]
    with torch.no_grad():
        body(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    torch.set_num_threads(1)
    a, b = torch.rand(size, size), torch.rand(size, size)
    peak = 2 * size**3 / best_of(lambda: a @ b, times) / 1e9
    block = np.ones(2**27 if not options.small else 2**20, np.uint8)
    target = np.empty_like(block)
    bandwidth = 2 * block.nbytes / best_of(lambda: np.copyto(target, block), times) / 1e9
    with tempfile.TemporaryDirectory() as folder:
        paths, _, _ = write_cells(folder, options.images, original)
        transform = ImageTransform(None, side)
        pictures = [transform.prepare(Image.open(path).convert("RGB")) for path in paths]
        decode = best_of(lambda: [Image.open(p).convert("RGB") for p in paths], 3) / len(paths)
        images = [Image.open(path).convert("RGB") for path in paths]
        resize = best_of(lambda: [transform.prepare(image) for image in images], 3) / len(paths)
        pixels = np.stack([np.asarray(picture) for picture in pictures])
        spent = profile(export_graph(body, transform), pixels, folder)
    network_ms = sum(spent.values())
    flop = counter.get_total_flops() / 1e9
    facts = {
        "GFLOP an image": flop,
        "MB of weights": weights / 1e6,
        "MB that convolutions read and write, an image": sum(moved) / 1e6,
        "GFLOP/s of one core, matrix product": peak,
        "GB/s of one core, copy": bandwidth,
        "ms an image at that peak": 1000 * flop / peak,
        "ms an image on one core, network": network_ms,
        "GFLOP/s of the network on one core": flop / network_ms * 1000,
        "ms to read and decode a file": 1000 * decode,
        "ms to resize it": 1000 * resize,
    }
    facts |= {f"  of the network, {name}": ms for name, ms in spent.most_common(8)}
    report("profile", __doc__, [{"what": what, "value": value} for what, value in facts.items()])


if __name__ == "__main__":
    main()
