"""The settings that `fit` learnt a width with: under others, it is another."""

from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from sklearn_torch_bridge._pickling import Shared

__all__ = ["are_the_same", "parameters_of_fit", "settings_of_fit"]

_SHAPING = (
    *("model", "preprocess", "max_length", "layer", "output", "pooling"),
    *("truncate_dim", "dtype"),
)
_PLAIN = (str, int, tuple, type(None))


def settings_of_fit(extractor: Any) -> tuple[Any, ...]:
    """Return what decides the shape of a row, as it is now."""
    return (*parameters_of_fit(extractor), _shapes(extractor.model))


def parameters_of_fit(extractor: Any) -> tuple[Any, ...]:
    """Return the first of these: parameters, which are quick to look at."""
    settings = [getattr(extractor, name) for name in _SHAPING]
    lists = (list, tuple)
    return tuple(tuple(one) if isinstance(one, lists) else one for one in settings)


def are_the_same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    """Return whether settings are the same objects, or equal where they are plain."""
    return all(
        one is other or (isinstance(one, _PLAIN) and one == other)
        for one, other in zip(before, now, strict=True)
    )


def _shapes(model: Any) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of weights, which change where a layer is replaced."""
    module = model.module if isinstance(model, Shared) else model
    if not isinstance(module, nn.Module):
        return ()
    weights: list[Any] = list(module.parameters())
    return tuple(() if is_lazy(one) else tuple(one.shape) for one in weights)
