import pytest
import torch
import torchvision
from torch import nn

from effboost.comparators import ECA, add_eca, eca_kernel_size, vgg16_eca


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("n_channels", "width"), [(64, 3), (128, 5), (256, 5), (512, 5), (1, 3), (2048, 7)]
)
def test_the_kernel_grows_with_the_channels(n_channels, width):
    assert eca_kernel_size(n_channels) == width
    conv = ECA(n_channels).conv
    assert conv.kernel_size == (width,)
    assert conv.bias is None


def test_attention_scales_channels_by_the_sigmoid_of_convolved_means():
    x = torch.rand(2, 64, 5, 7)
    eca = ECA(64)
    means = nn.functional.pad(x.mean(dim=(2, 3)), (1, 1))
    windows = means.unfold(1, 3, 1) @ eca.conv.weight[0, 0]
    torch.testing.assert_close(eca(x), x * torch.sigmoid(windows)[:, :, None, None])


def test_vgg16_has_attention_after_each_block_and_otherwise_its_own_layers():
    featurizer = vgg16_eca().featurizer
    with torch.device("meta"):
        network = featurizer.backbone.build()
        plain = torchvision.models.vgg16()
    widths = [part.conv.kernel_size[0] for part in network.modules() if isinstance(part, ECA)]
    assert widths == [3, 5, 5, 5, 5]
    assert count(plain) == 138_357_544
    assert count(network) == count(plain) + sum(widths)
    added = network.state_dict().keys() - plain.state_dict().keys()
    assert added == {f"{name}.conv.weight" for name in featurizer.backbone.fresh}
    assert plain.state_dict().keys() < network.state_dict().keys()
    assert network(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 1000)
    assert featurizer.backbone.weights == torchvision.models.VGG16_Weights.IMAGENET1K_V1.url


class SmallVGG(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.MaxPool2d(2)
        )
        self.classifier = nn.Linear(16, 1000)

    def forward(self, x):
        return self.classifier(self.features(x).mean(dim=(2, 3)))


@pytest.mark.slow
def test_a_network_with_attention_trains_and_exports(pixels, three_classes):
    """With the default runtime, so that the attention goes through the export, too."""
    classifier = vgg16_eca(
        weights=None,
        backbone=lambda: add_eca(SmallVGG()),
        crop_size=None,
        image_size=24,
        max_epochs=8,
        batch_size=8,
        lr=0.01,
        random_state=0,
    ).fit(pixels, three_classes)
    assert classifier.featurizer_.transform(pixels).shape == (24, 16)
    assert classifier.featurizer_.runtime_ == "onnxruntime"
    history = classifier.history_
    assert history[-1]["train_loss"] < history[0]["train_loss"]
