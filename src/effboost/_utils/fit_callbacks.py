"""Epochs and boosting rounds as tasks of scikit-learn's callbacks."""

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
        The name of a step for callbacks.
    estimator : estimator
        The estimator that is fitted.
    context : sklearn.callback.CallbackContext
        The task that the steps are part of.
    data : dict
        "X", "y" and "metadata", in the form that hooks take.
    stopped : bool
        Whether a callback has requested a stop.
    """

    name: str
    estimator: Any
    context: Any
    data: dict[str, Any]
    stopped: bool = False

    def begin(self) -> None:
        """Call the callbacks at the start of a step."""
        self._task = self.context.subcontext(task_name=self.name)
        self._task.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end(self, fitted: Callable[[], dict[str, Any]] | None = None) -> bool:
        """Call the callbacks at the end of a step.

        Parameters
        ----------
        fitted : callable, default=None
            Returns the fitted attributes that the estimator would have if this were its last step;
            called only if a callback uses them.

        Returns
        -------
        bool
            Whether a callback requests that this is the last step.
        """
        self.stopped = self._task.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=fitted, **self.data
        )
        return self.stopped


def callback_data(X: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
    """Return the arguments of `fit` in the form that scikit-learn's hooks take."""
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    return {"X": X, "y": y, "metadata": metadata}


@contextmanager
def subtask(
    parent: Any, name: str, estimator: Any, *, child: Any = None, max_subtasks: int = 0
) -> Iterator[Any]:
    """Call the callbacks for one part of a fit, also for the tasks of a child that is fitted."""
    context = parent.subcontext(task_name=name, max_subtasks=max_subtasks)
    with nullcontext() if child is None else context.propagate_callback_context(child):
        context.call_on_fit_task_begin(estimator=estimator)
        yield context
        context.call_on_fit_task_end(estimator=estimator)
