"""Why a hybrid decides as it does: see `hybrid_attribution`."""

from effboost.inspection._attribution import HybridAttribution, hybrid_attribution

__all__ = ["HybridAttribution", "hybrid_attribution"]
