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
    """Call callbacks when a fit begins and ends; yield a function for rows done."""
    if not getattr(estimator, "_skl_callbacks", None):
        yield silent
        return
    n_steps = min(n_samples, _MOST_STEPS)
    context = estimator._init_callback_context(max_subtasks=n_steps)  # noqa: SLF001 - documented for developers
    n_rows_done = n_ended = 0

    def advance(n_rows: int, *, known: bool = False) -> None:  # noqa: ARG001 - as bars are called
        nonlocal n_rows_done, n_ended
        n_rows_done += n_rows
        while n_ended < n_rows_done * n_steps // n_samples:
            step = context.subcontext(task_name="extract")
            step.call_on_fit_task_begin(estimator=estimator)
            step.call_on_fit_task_end(estimator=estimator)
            n_ended += 1

    context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    yield advance
    context.call_on_fit_task_end(estimator=estimator, X=X, y=y)
