"""Networks small enough for tests, with the parts that real ones have."""

from torch import nn

from effboost import ImageFeaturizer
from effboost._featurizer_keywords import build_featurizer


class TinyNet(nn.Module):
    """Two convolutions with batch norm and a classifier of 1000 outputs; 8 features by default."""

    def __init__(self, n_features=8):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.SiLU(),
            nn.Conv2d(6, n_features, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(n_features),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(n_features, 1000)

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)).flatten(1))


class WideNet(TinyNet):
    """As many features as a linear classifier needs to learn small training sets by heart."""

    def __init__(self):
        super().__init__(512)


def tiny_featurizer(**params):
    """Build a featurizer that runs a thousand 24-pixel images a second."""
    settings = {
        "backbone": TinyNet,
        "weights": None,
        "fine_tune": False,
        "crop_size": None,
        "image_size": 24,
        "runtime": "torch",  # an export takes longer than all else on so small a network
        "random_state": 0,
    }
    return build_featurizer(kind=ImageFeaturizer, **(settings | params))
