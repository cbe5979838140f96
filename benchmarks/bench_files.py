"""How fast are features of image files computed on a CPU?"""

import tempfile
from unittest import mock

import onnxruntime
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
    write_cells,
)
from embetter.vision import ImageLoader, TimmEncoder
from PIL import Image
from sklearn.pipeline import make_pipeline
from torchvision.transforms import v2


def embetter_pipeline(name):
    """Build it as in its documentation, but with random weights."""
    create = timm.create_model
    with mock.patch.object(
        timm, "create_model", lambda name, pretrained, **options: create(name, **options)
    ):
        return make_pipeline(ImageLoader(), TimmEncoder(name))


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    side, original = 224, 450
    if options.small:
        options.images, options.rounds, side, original = 16, 1, 64, 96
    network = calibrated("efficientnet_b0", side)
    body = without_head(network)
    steps = v2.Compose(
        [v2.Resize((side, side)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    )
    session = onnxruntime.InferenceSession(
        export_float(without_head(network), side), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    embetter = embetter_pipeline("efficientnet_b0")
    with tempfile.TemporaryDirectory() as folder:
        paths, _, _ = write_cells(folder, options.images, original)
        ready = torch.stack([steps(Image.open(path).convert("RGB")) for path in paths])
        featurizer = frozen_featurizer(network, side).fit(paths)
        featurizer.transform(paths[:2])

        def torchvision():
            with torch.inference_mode():
                for start in range(0, len(paths), 32):
                    part = [Image.open(p).convert("RGB") for p in paths[start : start + 32]]
                    body(torch.stack([steps(image) for image in part]))

        def raw(batch_size):
            for start in range(0, len(ready), batch_size):
                session.run(None, {name: ready[start : start + batch_size].numpy()})

        contenders = {
            "raw onnxruntime on ready tensors, batch 1": lambda: raw(1),
            "raw onnxruntime on ready tensors, batch 4": lambda: raw(4),
            "raw onnxruntime on ready tensors, batch 8": lambda: raw(8),
            "torchvision, batch 32": torchvision,
            "embetter": lambda: embetter.fit_transform(paths),
            "effboost": lambda: featurizer.transform(paths),
        }
        seconds = interleaved_seconds(contenders, options.rounds, warm_up=True)
    best = min(s for name, s in seconds.items() if name.startswith("raw"))
    rows = [
        {
            "contender": name,
            "images/s": options.images / seconds[name],
            "to best raw onnxruntime": best / seconds[name],
            "to embetter": seconds["embetter"] / seconds[name],
        }
        for name in contenders
    ]
    report("files", __doc__, rows)


if __name__ == "__main__":
    main()
