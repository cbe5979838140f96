"""The systems that the paper compares itself with, as scikit-learn classifiers."""

from effboost.backbones import timm_spec
from effboost.comparators._alexnet_cnnrnn_dctlstm import (
    CNNRNN,
    DCTLSTM,
    SubjectVotingClassifier,
    alexnet_cnnrnn_dctlstm,
)
from effboost.comparators._bagged_inception_resnets import (
    BaggedNetworks,
    ColourAugmentation,
    JointNetwork,
    bagged_inception_resnets,
    crop_to_cell,
)
from effboost.comparators._inception_xgboost import inception_xgboost
from effboost.comparators._paper_cnn import paper_cnn
from effboost.comparators._prellberg import (
    LearningRateSteps,
    RotationAveragedCNN,
    ShiftAugmentation,
    prellberg,
)
from effboost.comparators._registry import COMPARATORS, Comparator, Reported
from effboost.comparators._res_rand_svm import res_rand_svm
from effboost.comparators._rezayi import RezayiCNN, rezayi_cnn, rezayi_resnet50, rezayi_vgg16
from effboost.comparators._timm_logistic import timm_logistic
from effboost.comparators._vgg16_eca import ECA, add_eca, eca_kernel_size, vgg16_eca

__all__ = [
    "CNNRNN",
    "COMPARATORS",
    "DCTLSTM",
    "ECA",
    "BaggedNetworks",
    "ColourAugmentation",
    "Comparator",
    "JointNetwork",
    "LearningRateSteps",
    "Reported",
    "RezayiCNN",
    "RotationAveragedCNN",
    "ShiftAugmentation",
    "SubjectVotingClassifier",
    "add_eca",
    "alexnet_cnnrnn_dctlstm",
    "bagged_inception_resnets",
    "crop_to_cell",
    "eca_kernel_size",
    "inception_xgboost",
    "paper_cnn",
    "prellberg",
    "res_rand_svm",
    "rezayi_cnn",
    "rezayi_resnet50",
    "rezayi_vgg16",
    "timm_logistic",
    "timm_spec",
    "vgg16_eca",
]
