"""All systems by name, with the scores that their authors reported."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from effboost.comparators._alexnet_cnnrnn_dctlstm import alexnet_cnnrnn_dctlstm
from effboost.comparators._bagged_inception_resnets import bagged_inception_resnets
from effboost.comparators._inception_xgboost import inception_xgboost
from effboost.comparators._paper_cnn import paper_cnn
from effboost.comparators._prellberg import prellberg
from effboost.comparators._res_rand_svm import res_rand_svm
from effboost.comparators._rezayi import rezayi_cnn, rezayi_resnet50, rezayi_vgg16
from effboost.comparators._timm_logistic import timm_logistic
from effboost.comparators._vgg16_eca import vgg16_eca
from effboost.presets import paper

__all__ = ["COMPARATORS", "Comparator", "Reported"]


@dataclasses.dataclass(frozen=True)
class Reported:
    """A score that was reported for a system.

    Parameters
    ----------
    metric : str
        Name of the metric, as in `effboost.evaluate`, or "precision", "recall", "f1".
    value : float
        The score.
    note : str, default=""
        The data or the kind of score.

    Examples
    --------
    >>> from effboost.comparators import COMPARATORS
    >>> reported = COMPARATORS["efficientnet_b0"].reported[0]
    >>> reported.metric, reported.value, reported.note
    ('accuracy', 0.81, 'half of the preliminary test set')
    """

    metric: str
    value: float
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Comparator:
    """One system.

    Parameters
    ----------
    name : str
        Its key in `COMPARATORS`.
    factory : callable
        Builds the unfitted classifier. All take the same keywords: ``weights``, ``random_state``,
        ``verbose``, and any other parameter of `ImageFeaturizer`, `ImageTransform` and, if a
        network is tuned, `FineTuning` by its own name, such as ``image_size``, ``cache`` or
        ``max_epochs``; and ``backbone``, for experiments.
    citation : str
        Its authors, or its publication.
    table : {"Table 1", "Table 3", "challenge", "baseline"}
        Where it is in the paper. "Table 1" includes the network alone, which is only in the text.
        "challenge" and "baseline" are not in the paper.
    reported : tuple of Reported, default=()
        The scores that its authors reported; empty if none are known.
    network : {"pretrained", "own", "scratch"}, default="pretrained"
        "pretrained": a published network with published weights, which `backbone` can replace.
        "own": it starts from such weights, but has layers of its own. "scratch": it starts from
        random weights.
    is_tuned : bool, default=True
        Whether a network is trained, so that the factory takes the parameters of `FineTuning`.

    Examples
    --------
    >>> from effboost.comparators import COMPARATORS
    >>> system = COMPARATORS["vgg16_eca"]
    >>> system.citation, system.table
    ('Ullah et al. 2021', 'Table 3')
    >>> clf = system.factory(weights=None, max_epochs=1)
    """

    name: str
    factory: Callable[..., Any]
    citation: str
    table: str
    reported: tuple[Reported, ...] = ()
    network: str = "pretrained"
    is_tuned: bool = True


_PAPER: Final = (
    "Advancing the Diagnosis of Acute Lymphoblastic Leukemia with Hybrid Neural Networks"
)
_VALIDATION: Final = "called a validation accuracy by the source, a testing accuracy by the paper"


def _hybrid(backbone: str) -> Callable[..., Any]:
    return functools.partial(paper, backbone=backbone)


COMPARATORS: Final = MappingProxyType(
    {
        system.name: system
        for system in (
            Comparator(
                "hybrid_efficientnet_b0",
                _hybrid("efficientnet_b0"),
                _PAPER,
                "Table 1",
                (Reported("accuracy", 0.85, "half of the preliminary test set"),),
            ),
            Comparator("hybrid_vgg16", _hybrid("vgg16"), _PAPER, "Table 1"),
            Comparator("hybrid_resnet18", _hybrid("resnet18"), _PAPER, "Table 1"),
            Comparator(
                "hybrid_inception_v3",
                _hybrid("inception_v3"),
                _PAPER,
                "Table 1",
            ),
            Comparator(
                "efficientnet_b0",
                paper_cnn,
                _PAPER,
                "Table 1",
                (Reported("accuracy", 0.81, "half of the preliminary test set"),),
            ),
            Comparator(
                "vgg16_eca",
                vgg16_eca,
                "Ullah et al. 2021",
                "Table 3",
                (Reported("accuracy", 0.911),),
                network="own",
            ),
            Comparator(
                "rezayi_resnet50",
                rezayi_resnet50,
                "Rezayi et al. 2021",
                "Table 3",
                (Reported("accuracy", 0.8163, _VALIDATION),),
                network="scratch",
            ),
            Comparator(
                "rezayi_cnn",
                rezayi_cnn,
                "Rezayi et al. 2021",
                "Table 3",
                (Reported("accuracy", 0.8210, _VALIDATION),),
                network="scratch",
            ),
            Comparator(
                "rezayi_vgg16",
                rezayi_vgg16,
                "Rezayi et al. 2021",
                "Table 3",
                (Reported("accuracy", 0.8462, _VALIDATION),),
                network="scratch",
            ),
            Comparator(
                "bagged_inception_resnets",
                bagged_inception_resnets,
                "Liu and Long 2019",
                "Table 3",
                (Reported("weighted_f1", 0.876),),
            ),
            Comparator(
                "alexnet_cnnrnn_dctlstm",
                alexnet_cnnrnn_dctlstm,
                "Shah et al. 2019",
                "Table 3",
                (Reported("accuracy", 0.866),),
                network="own",
            ),
            Comparator(
                "res_rand_svm",
                res_rand_svm,
                "Sulaiman et al. 2023",
                "Table 3",
                (
                    Reported("accuracy", 0.900),
                    Reported("precision", 0.902),
                    Reported("recall", 0.957),
                    Reported("f1", 0.929),
                ),
                is_tuned=False,
            ),
            Comparator(
                "inception_xgboost",
                inception_xgboost,
                "Ramaneswaran et al. 2021",
                "Table 3",
                (Reported("weighted_f1", 0.986, "typical of splits by image"),),
            ),
            Comparator(
                "prellberg",
                prellberg,
                "Prellberg and Kramer 2019",
                "challenge",
                (Reported("weighted_f1", 0.889, "final test set; inferred from its network"),),
            ),
            Comparator("timm_logistic", timm_logistic, "embetter", "baseline", is_tuned=False),
        )
    }
)
