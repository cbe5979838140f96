"""What does fine-tuning cost compared with a plain PyTorch loop, and how good is the result?"""

import numpy as np
import torch
from _common import add_data_options, interleaved_seconds, load_data, make_parser, report
from PIL import Image
from torch import nn
from torchvision.models import get_model
from torchvision.transforms import v2

from effboost import FineTuning, HybridClassifier, ImageFeaturizer, ImageTransform
from effboost.model_selection import subject_split


class PlainImages(torch.utils.data.Dataset):
    def __init__(self, X, y, size):
        self.X, self.y = X, y
        self.transform = v2.Compose(
            [
                v2.Resize((size, size)),
                v2.RandomHorizontalFlip(0.2),
                v2.RandomVerticalFlip(0.2),
                v2.RandomRotation(10, v2.InterpolationMode.BILINEAR),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        x = self.X[i]
        image = Image.open(x).convert("RGB") if isinstance(x, str) else Image.fromarray(x)
        return self.transform(image), self.y[i]


def plain_loop(backbone, X, y, size, epochs):
    """Train as in a tutorial: no validation, no features, no estimate of batch norms."""
    torch.manual_seed(0)
    network = get_model(backbone, weights=None, num_classes=int(y.max()) + 1)
    loader = torch.utils.data.DataLoader(
        PlainImages(X, y, size), batch_size=40, shuffle=True, drop_last=len(y) % 40 == 1
    )
    optimizer = torch.optim.Adamax(network.parameters(), lr=1e-3)
    loss_of = nn.CrossEntropyLoss()
    network.train()
    for _ in range(epochs):
        for pixels, target in loader:
            optimizer.zero_grad()
            loss_of(network(pixels), target).backward()
            optimizer.step()


def main():
    parser = make_parser(__doc__)
    add_data_options(parser)
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    if options.small:
        options.epochs, options.image_size = 1, 32
    subjects = 6 if options.small else 30
    X, y, groups = load_data(options, subjects, 10, options.image_size)
    split = subject_split(y, groups, test_size=0.2, random_state=0)
    train, test = split.train, split.test
    codes = np.unique(y, return_inverse=True)[1]
    featurizer = ImageFeaturizer(
        options.backbone,
        weights=None,
        training=FineTuning(max_epochs=options.epochs),
        transform=ImageTransform(crop_size=None, image_size=options.image_size),
        random_state=0,
    )
    hybrid = HybridClassifier(featurizer, random_state=0)
    seconds = interleaved_seconds(
        {
            "plain": lambda: plain_loop(
                options.backbone, X[train], codes[train], options.image_size, options.epochs
            ),
            # Including the features of all training images and the booster.
            "effboost": lambda: hybrid.fit(X[train], y[train], groups=groups[train]),
        },
        options.rounds,
    )
    row = {
        "images": len(train),
        "epochs": options.epochs,
        "plain loop s": seconds["plain"],
        "hybrid fit s": seconds["effboost"],
        "ratio": seconds["effboost"] / seconds["plain"],
        "of it epochs s": sum(epoch["dur"] for epoch in hybrid.history_),
        "CNN accuracy": hybrid.cnn_.score(X[test], y[test]),
        "hybrid accuracy": hybrid.score(X[test], y[test]),
    }
    report("training", __doc__, [row])


if __name__ == "__main__":
    main()
