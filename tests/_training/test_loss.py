import pytest
import torch
from torch import nn

from effboost._training.loss import ClassLoss

SCORES = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 2, 3, 3, 2, 1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_a_focus_it_is_torchs_cross_entropy_to_the_bit(smoothing):
    expected = nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)(SCORES, TARGET)
    assert torch.equal(ClassLoss(smoothing)(SCORES, TARGET), expected)


def test_the_focal_loss_weighs_by_the_probability_of_the_other_classes():
    p = torch.softmax(SCORES, dim=1)[range(7), TARGET]
    got = ClassLoss(focal_gamma=2)(SCORES, TARGET)
    torch.testing.assert_close(got, -((1 - p) ** 2) * torch.log(p))
    smooth = ClassLoss(0.1, focal_gamma=2)(SCORES, TARGET)
    torch.testing.assert_close(smooth, (1 - p) ** 2 * ClassLoss(0.1)(SCORES, TARGET))


@pytest.mark.parametrize("gamma", [0.5, 1, 2])
def test_a_class_that_is_certain_has_a_slope(gamma):
    scores = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    ClassLoss(focal_gamma=gamma)(scores, torch.tensor([0, 0])).sum().backward()
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[1, 0] == -1


def test_evaluation_is_plain_cross_entropy():
    loss = ClassLoss(0.1, focal_gamma=2).eval()
    expected = nn.functional.cross_entropy(SCORES, TARGET, reduction="none")
    assert torch.equal(loss(SCORES, TARGET), expected)
