"""A handle on a module: copies and clones of it are the handle itself."""

from typing import Any, Self

from torch import nn

from sklearn_torch_bridge._pickling._module_calls import is_module_call, owner_of
from sklearn_torch_bridge._pickling._pack import exported

__all__ = ["Shared", "share"]


def share(model: Any) -> "Shared":
    """Wrap a module in a handle, so that a grid of models copies no weights.

    scikit-learn copies the values of a grid for each candidate, but no handle, nor do
    `copy.copy` and `copy.deepcopy`. With `n_jobs` the weights of each handle reach the
    workers as one memory map.

    Parameters
    ----------
    model : torch.nn.Module or bound method of one
        The module to share.

    Returns
    -------
    handle : Shared
        Stands for `model` as the parameter ``model`` of `TorchFeatureExtractor`.
        Handles on the same module are equal. Its attribute ``module`` is the module.

    Raises
    ------
    TypeError
        If `model` is no module, nor a method of one. Strings and callables need no
        handle.

    See Also
    --------
    TorchFeatureExtractor : Takes the handle as its model.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_torch_bridge import TorchFeatureExtractor, share
    >>> _ = torch.manual_seed(0)
    >>> small, large = torch.nn.Linear(4, 2), torch.nn.Linear(4, 8)
    >>> share(small)
    share(Linear with 10 parameters)
    >>> pipe = make_pipeline(TorchFeatureExtractor(small), LogisticRegression())
    >>> grid = {"torchfeatureextractor__model": [share(small), share(large)]}
    >>> search = GridSearchCV(pipe, grid, cv=2).fit(np.eye(4), [0, 0, 1, 1])
    >>> search.best_params_["torchfeatureextractor__model"].module is small
    True
    """
    if isinstance(model, Shared):
        return model
    if not isinstance(model, nn.Module) and not is_module_call(model):
        msg = (
            f"`model` must be a torch.nn.Module, got {model!r}. Strings and callables "
            "are cheap in a grid as they are."
        )
        raise TypeError(msg)
    return Shared(model)


class Shared:
    """A handle on a module, which copies and clones as itself; made by `share`."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __copy__(self) -> Self:
        return self

    __sklearn_clone__ = __copy__

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return share, (exported(self.module),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shared) and other.module == self.module

    def __hash__(self) -> int:
        return hash((Shared, self.module))

    def __repr__(self) -> str:
        module = owner_of(self.module)
        assert module is not None  # noqa: S101 - checked by `share`
        n_parameters = sum(weight.numel() for weight in module.parameters())
        kind = getattr(self.module, "__qualname__", type(module).__name__)
        return f"share({kind} with {n_parameters:,} parameters)"
