"""What `torch.compile` is told, gives, and leaves behind.

Some of it has no public name in torch 2.13: the settings of Inductor, the errors, and
the list of all code that was ever loaded.
"""

import functools
import sys
import types
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from sklearn_torch_bridge._compiled._index_bounds import check_bounds
from sklearn_torch_bridge._replica import taps
from sklearn_torch_bridge._types import Inputs

__all__ = [
    "compile_graph",
    "compiler_errors",
    "compiler_settings",
    "describe_error",
    "distance",
    "forget_code",
    "marked",
    "repeated",
    "traceable",
]

_MOST_LINES = 3  # of an error; what follows are hints for PyTorch's developers


def traceable(
    own: nn.Module, layers: tuple[str, ...]
) -> tuple[Callable[..., dict[str, Any]], object]:
    """Give a forward that torch can trace, and that returns what the layers return.

    It stops after the last of them, as `taps` does; with it comes what to hold on to
    for as long as it is used. Its code object is its own, since torch keeps what it
    compiles by code object.
    """
    found: dict[str, Any] = {}

    def keep(layer: str, value: Any) -> None:
        found[layer] = value

    def keep_copy(layer: str, value: Any) -> None:  # a later layer may work in place
        found[layer] = pytree.tree_map_only(torch.Tensor, torch.clone, value)

    lasting = taps(own, layers, keep_copy if len(layers) > 1 else keep)
    run = lasting.__enter__()

    def forward(*args: Any, **kwargs: Any) -> dict[str, Any]:
        run(Inputs(args, kwargs))
        result = dict(found)
        found.clear()
        return result

    code = forward.__code__.replace(co_name=f"forward_of_{type(own).__name__}")
    return types.FunctionType(code, globals(), closure=forward.__closure__), lasting


def repeated(given: Any, n_rows: int) -> Any:
    """Repeat the rows of all tensors of a batch until there are `n_rows`, or more."""
    tensors = pytree.tree_leaves(given)
    found = next((t.shape[0] for t in tensors if _has_rows(t)), n_rows)
    times = -(-n_rows // found)
    if times <= 1:
        return given
    return pytree.tree_map_only(
        torch.Tensor,
        lambda t: torch.cat([t] * times) if _has_rows(t) and len(t) == found else t,
        given,
    )


def _has_rows(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape[0] > 0


def marked(given: Any, *, ragged: bool) -> Any:
    """Copy the tensors of a batch, and mark along which axes batches differ.

    All copies are of one kind (contiguous, without history), as code is compiled for
    each kind; and a forward may write to them.
    """

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        own = tensor.detach().clone(memory_format=torch.contiguous_format)
        for axis in range(min(own.ndim, 2 if ragged else 1)):
            torch._dynamo.maybe_mark_dynamic(own, axis)  # noqa: SLF001 - its documented name
        return own

    return pytree.tree_map_only(torch.Tensor, copy, given)


def compiler_settings(*, freezes: bool) -> AbstractContextManager[object]:
    """Set how code is compiled inside; what is compiled already runs as it is.

    With `freezes`, weights become constants.
    """
    if not freezes:
        return nullcontext()
    from torch._inductor import config

    settings: AbstractContextManager[object] = config.patch(
        freezing=True, joint_custom_pre_pass=check_bounds
    )
    return settings


def compile_graph(
    graph: torch.fx.GraphModule, examples: list[Any]
) -> tuple[Callable[..., Any], list[types.ModuleType]]:
    """Compile as torch's own backend would; give the Python modules made, as well."""
    compile_fx = _compile_fx()
    from torch._inductor.codecache import PyCodeCache

    known = len(PyCodeCache.modules)
    code = compile_fx(graph, examples)
    return code, PyCodeCache.modules[known:]


@functools.cache
def _compile_fx() -> Any:
    with warnings.catch_warnings():  # torch 2.13 deprecates what it imports here
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch._inductor.compile_fx import compile_fx
    return compile_fx


def forget_code(forward: Callable[..., Any], loaded: list[types.ModuleType]) -> None:
    """Let go of what was compiled for a forward: torch would keep it for ever.

    The code that runs hangs on the forward's code object, the weights that are
    constants in it on the modules loaded.
    """
    from torch._C._dynamo.eval_frame import reset_code

    reset_code(forward.__code__)
    if not loaded:
        return
    from torch._inductor.codecache import PyCodeCache

    for module in loaded:
        sys.modules.pop(module.__name__, None)
        if module in PyCodeCache.modules:
            PyCodeCache.modules.remove(module)


def compiler_errors() -> tuple[type[Exception], ...]:
    """Give all that `torch.compile` raises by itself; torch is slow to import them."""
    from torch._dynamo import exc

    return exc.TorchDynamoException, exc.FailOnRecompileLimitHit


def describe_error(error: Exception) -> str:
    """Say why a model was not compiled, and what to do."""
    from torch._inductor.exc import InvalidCxxCompiler

    reason = getattr(error, "inner_exception", error)
    if isinstance(reason, InvalidCxxCompiler):
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


def distance(found: Any, expected: Any) -> float:
    """Measure how far results are apart, in parts of the largest value of each.

    >>> distance([torch.tensor([1.0, 2.0])], [torch.tensor([1.0, 4.0])])
    0.5
    """
    pairs = zip(*map(pytree.tree_leaves, (found, expected)), strict=True)
    return max((_apart(*pair) for pair in pairs), default=0.0)


def _apart(one: Any, other: Any) -> float:
    if not (isinstance(other, torch.Tensor) and other.is_floating_point()):
        return 0.0
    differs = ~((one == other) | (one.isnan() & other.isnan()))
    if not differs.any():
        return 0.0
    gap = (one.double() - other.double()).abs()[differs].max()
    largest = other.double().nan_to_num(0, 0, 0).abs().max()
    return float((gap / largest).nan_to_num(nan=torch.inf))
