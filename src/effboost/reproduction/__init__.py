"""The paper's tables and figures, measured again: see `reproduce`."""

from effboost.reproduction._reproduce import Reproduction, reproduce
from effboost.reproduction._result import SystemResult

__all__ = ["Reproduction", "SystemResult", "reproduce"]
