"""How fast are frozen features on a CPU, beside torchvision as it comes?"""

import numpy as np
import torch
from _common import interleaved_seconds, make_parser, report
from PIL import Image
from torchvision.models import get_model
from torchvision.transforms import v2

from effboost import ImageFeaturizer
from effboost.datasets import make_blood_cells


def calibrated(name, side):
    """Random weights whose batch norms know their data: signals that fade would be denormal."""
    torch.manual_seed(0)
    network = get_model(name, weights=None).train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(8, 3, side, side))
    return network.eval()


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    side, original = 224, 450
    if options.small:
        options.images, options.rounds, side, original = 16, 1, 64, 80
    X = make_blood_cells(4, -(-options.images // 4), image_size=original, random_state=0).images
    network = calibrated(options.backbone, side)
    featurizer = ImageFeaturizer(
        lambda: get_model(options.backbone),
        weights=None,
        fine_tune=False,
        crop_size=None,
        image_size=side,
    ).fit(X)
    state = network.state_dict()
    featurizer.module_.load_state_dict(
        {key: value for key, value in state.items() if key in featurizer.module_.state_dict()}
    )
    body = calibrated(options.backbone, side)
    body.load_state_dict(state)
    steps = v2.Compose(
        [v2.Resize((side, side)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    )

    def torchvision(batch_size):
        parts = []
        with torch.inference_mode():
            for start in range(0, len(X), batch_size):
                batch = [steps(Image.fromarray(x)) for x in X[start : start + batch_size]]
                parts.append(body(torch.stack(batch)))
        return torch.cat(parts)

    contenders = {
        "torchvision, batch 32": lambda: torchvision(32),
        "torchvision, batch 8": lambda: torchvision(8),
        "effboost": lambda: featurizer.transform(X),
    }
    seconds = interleaved_seconds(contenders, options.rounds, warm_up=True)
    assert np.isfinite(featurizer.transform(X[:8])).all()
    rows = [
        {
            "contender": name,
            "images/s": len(X) / seconds[name],
            "ratio": seconds["torchvision, batch 32"] / seconds[name],
        }
        for name in contenders
    ]
    report("extraction", __doc__, rows)


if __name__ == "__main__":
    main()
