"""Callbacks of scikit-learn 1.9: a `ProgressBar` on a Pipeline shows our batches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sklearn_torch_bridge._packages import is_installed
from sklearn_torch_bridge._run import Advance, silent

__all__ = ["CallbackSupport", "fit_task", "with_callbacks"]

_MOST_STEPS = 100

_Method = TypeVar("_Method", bound=Callable[..., Any])

if TYPE_CHECKING or not is_installed("sklearn.callback"):

    class CallbackSupport:
        """Stands for scikit-learn's mixin, where there is none."""

    def with_callbacks(method: _Method) -> _Method:
        """Leave a method as it is."""
        return method

else:
    from sklearn.callback import CallbackSupportMixin as CallbackSupport
    from sklearn.callback import with_callbacks


@contextmanager
def fit_task(
    estimator: Any, X: Any, y: Any = None, *, n_samples: int = 0
) -> Iterator[Advance]:
    """Tell callbacks that a fit begins and ends; give a function for rows done.

    To be used in a method that is decorated by `with_callbacks`. Without callbacks it
    costs nothing.
    """
    if not getattr(estimator, "_skl_callbacks", None):
        yield silent
        return
    n_steps = min(n_samples, _MOST_STEPS)
    context = estimator._init_callback_context(max_subtasks=n_steps)  # noqa: SLF001 - documented for developers
    context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    yield _Steps(estimator, context, n_steps, n_samples)
    context.call_on_fit_task_end(estimator=estimator, X=X, y=y)


class _Steps:
    """Ends one subtask after the other, as rows get done."""

    def __init__(
        self, estimator: Any, context: Any, n_steps: int, n_samples: int
    ) -> None:
        self._estimator = estimator
        self._context = context
        self._n_steps = n_steps
        self._n_samples = n_samples
        self._rows = self._ended = 0

    def __call__(self, n_rows: int, *, known: bool = False) -> None:
        """Go on by `n_rows`."""
        self._rows += n_rows
        while self._ended < self._rows * self._n_steps // self._n_samples:
            step = self._context.subcontext(task_name="extract")
            step.call_on_fit_task_begin(estimator=self._estimator)
            step.call_on_fit_task_end(estimator=self._estimator)
            self._ended += 1
