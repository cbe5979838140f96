"""Epochs and boosting rounds as tasks that scikit-learn's callbacks are told of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

__all__ = ["CallbackSteps", "callback_data", "subtask"]


@dataclasses.dataclass
class CallbackSteps:
    """The steps of one fit, one after the other.

    Attributes
    ----------
    name : str
        What callbacks call a step.
    estimator : estimator
        The one that is fitted.
    context : sklearn.callback.CallbackContext
        The task that the steps are part of.
    data : dict
        "X", "y" and "metadata", as hooks take them.
    stopped : bool
        Whether a callback has asked for no further step.
    """

    name: str
    estimator: Any
    context: Any
    data: dict[str, Any]
    stopped: bool = False

    def begin(self) -> None:
        """Tell callbacks that a step begins."""
        self._task = self.context.subcontext(task_name=self.name)
        self._task.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end(self, fitted: Callable[[], dict[str, Any]] | None = None) -> bool:
        """Tell callbacks that a step has ended.

        Parameters
        ----------
        fitted : callable, default=None
            Gives the attributes that the estimator would have if this were its last step; called
            only for callbacks that look at them.

        Returns
        -------
        bool
            Whether a callback wants this to be the last step.
        """
        self.stopped = self._task.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=fitted, **self.data
        )
        return self.stopped


def callback_data(X: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
    """Return the arguments of `fit` as scikit-learn's hooks take them."""
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    return {"X": X, "y": y, "metadata": metadata}


@contextmanager
def subtask(
    parent: Any, name: str, estimator: Any, *, child: Any = None, max_subtasks: int = 0
) -> Iterator[Any]:
    """Tell callbacks of one part of a fit; of a child's own tasks, too, where one is fitted."""
    context = parent.subcontext(task_name=name, max_subtasks=max_subtasks)
    with nullcontext() if child is None else context.propagate_callback_context(child):
        context.call_on_fit_task_begin(estimator=estimator)
        yield context
        context.call_on_fit_task_end(estimator=estimator)
