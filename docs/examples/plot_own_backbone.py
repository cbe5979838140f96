"""
Your own backbone
=================

Use any ``torch.nn.Module`` with a classification layer at its end, fine-tune it, and compare it
with a pretrained network.
"""

# %%
# A small network for small cells. Its last linear layer is replaced; what goes into that layer are
# the features.
import matplotlib.pyplot as plt
from torch import nn

from effboost import (
    FineTuning,
    HybridClassifier,
    ImageFeaturizer,
    ImageTransform,
    evaluate,
    presets,
)
from effboost.datasets import make_blood_cells
from effboost.inspection import ExtractorComparisonDisplay


class CellNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(self._stage(n_in, n_out) for n_in, n_out in [(3, 16), (16, 32), (32, 64)])
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, 2)

    def _stage(self, n_in, n_out):
        convolution = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.ReLU())

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)).flatten(1))


# %%
# Any callable that builds the network is a backbone. It has no pretrained weights, so it is
# trained.
cells = make_blood_cells(16, 10, image_size=64, random_state=0)
own = HybridClassifier(
    ImageFeaturizer(
        CellNet,
        weights=None,
        transform=ImageTransform(crop_size=None, image_size=64),
        training=FineTuning(max_epochs=8, batch_size=16, lr=3e-3),
    ),
    random_state=0,
)
pretrained = presets.frozen("efficientnet_lite0", image_size=64, random_state=0)

# %%
# Both on the same folds. For the network that was trained, the report also has its own accuracy,
# without the trees.
reports = {
    name: evaluate(clf, cells.images, cells.target, groups=cells.groups, cv=4, n_bootstrap=200)
    for name, clf in {"CellNet, trained here": own, "EfficientNet-Lite0": pretrained}.items()
}
ExtractorComparisonDisplay.from_reports(reports, metric="auroc")
plt.gcf().set_size_inches(7, 3)
