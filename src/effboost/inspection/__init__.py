"""Why a hybrid decides as it does: see `hybrid_attribution`."""

from effboost.inspection._attribution import Attribution, hybrid_attribution
from effboost.inspection._cam import ClassActivation, grad_cam
from effboost.inspection._heat import AttributionDisplay, CAMDisplay
from effboost.inspection._occlusion import occlusion_attribution
from effboost.inspection._report import HTMLReport, report

__all__ = [
    "Attribution",
    "AttributionDisplay",
    "CAMDisplay",
    "ClassActivation",
    "HTMLReport",
    "grad_cam",
    "hybrid_attribution",
    "occlusion_attribution",
    "report",
]
