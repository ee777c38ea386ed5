"""What `torch.compile` takes and returns: forwards, batches, errors, results."""

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sklearn_torch_bridge import _torch_private
from sklearn_torch_bridge._replica import taps
from sklearn_torch_bridge._types import Inputs

__all__ = ["copy_batch", "describe_error", "relative_error", "repeat_rows", "traceable"]

_MOST_LINES = 3  # of an error; what follows are hints for PyTorch's developers


def traceable(
    own: nn.Module, layers: tuple[str, ...]
) -> tuple[Callable[..., dict[str, Any]], object]:
    """Make a forward that torch can trace, and that returns what the layers return.

    The second value must live as long as the forward, which has a code object of its
    own: torch keeps what it compiles by code object.
    """
    found: dict[str, Any] = {}

    def keep(layer: str, value: Any) -> None:
        if len(layers) > 1:  # a later layer may work in place
            value = _torch_private.tree_map_tensors(torch.clone, value)
        found[layer] = value

    lasting = taps(own, layers, keep)
    run = lasting.__enter__()

    def forward(*args: Any, **kwargs: Any) -> dict[str, Any]:
        run(Inputs(args, kwargs))
        result = dict(found)
        found.clear()
        return result

    code = forward.__code__.replace(co_name=f"forward_of_{type(own).__name__}")
    return types.FunctionType(code, globals(), closure=forward.__closure__), lasting


def repeat_rows(given: Any, n_rows: int) -> Any:
    """Repeat the rows of all tensors of a batch until there are `n_rows`, or more."""
    leaves = _torch_private.tree_leaves(given)
    n_given = next((len(leaf) for leaf in leaves if _has_rows(leaf)), n_rows)
    times = -(-n_rows // n_given)
    if times <= 1:
        return given
    return _torch_private.tree_map_tensors(
        lambda t: torch.cat([t] * times) if _has_rows(t) and len(t) == n_given else t,
        given,
    )


def _has_rows(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape[0] > 0


def copy_batch(given: Any, *, ragged: int) -> Any:
    """Copy the tensors of a batch, and mark the axes along which batches differ.

    These are the rows', and as many as `ragged` says behind it.

    All copies are contiguous and without history, as code is compiled for each kind;
    and a forward may write to them.
    """

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        own = tensor.detach().clone(memory_format=torch.contiguous_format)
        for axis in range(min(own.ndim, 1 + ragged)):
            _torch_private.mark_dynamic(own, axis)
        return own

    return _torch_private.tree_map_tensors(copy, given)


def describe_error(error: Exception) -> str:
    """Describe why a model was not compiled, and what to do."""
    reason = getattr(error, "inner_exception", error)
    if type(reason).__name__ == "InvalidCxxCompiler":
        return (
            "`compile=True` needs a C++ compiler, found none. Install g++ or clang++, "
            "or name yours in the environment variable CXX; or set `compile=False`."
        )
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    what = " ".join(lines[:_MOST_LINES])
    return (
        "`compile` must be False for this model: PyTorch cannot compile it "
        f"({type(reason).__name__}: {what})."
    )


def relative_error(found: Any, expected: Any) -> float:
    """Compute the largest difference of results, in parts of the largest value of each.

    >>> relative_error([torch.tensor([1.0, 2.0])], [torch.tensor([1.0, 4.0])])
    0.5
    """
    pairs = zip(*map(_torch_private.tree_leaves, (found, expected)), strict=True)
    return max((_error_of(*pair) for pair in pairs), default=0.0)


def _error_of(one: Any, other: Any) -> float:
    if not (isinstance(other, torch.Tensor) and other.is_floating_point()):
        return 0.0
    differs = ~((one == other) | (one.isnan() & other.isnan()))
    if not differs.any():
        return 0.0
    gap = (one.double() - other.double()).abs()[differs].max()
    largest = other.double().nan_to_num(0, 0, 0).abs().max()
    return float((gap / largest).nan_to_num(nan=torch.inf))
