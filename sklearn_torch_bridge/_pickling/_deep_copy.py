"""Deep copies of modules, also of those that hold tensors with a graph."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["culprit", "deep_copy"]

_HOOKS = {"_forward_hooks", "_forward_pre_hooks"}
_OF_EVERY_MODULE = vars(nn.Module()).keys() - _HOOKS


def deep_copy(content: Any, memo: dict[int, Any] | None = None) -> Any:
    """Copy a module or a tokenizer, with all that hangs on it.

    Tensors that a forward has left there (the weight of old weight norms, of pruned
    layers, activations) are copied without the graph that `copy.deepcopy` refuses.
    """
    try:
        with _WithoutGraph():
            return copy.deepcopy(content, memo)
    except Exception as error:
        kind, blamed = type(content).__name__, culprit(content, _copy_alone, error)
        msg = (
            f"what is copied deeply must consist of what can be copied, and {kind} "
            f"does not: {error}.{blamed} Give a callable that "
            "builds it (`model`=build), or `share(model)`: neither is copied."
        )
        raise TypeError(msg) from error


class _WithoutGraph(TorchFunctionMode):
    """Copies tensors that are no leaves by their values."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            memo[id(tensor)] = own = tensor.detach().clone()
            return own
        return func(*args, **(kwargs or {}))


def _copy_alone(value: Any) -> None:
    with _WithoutGraph():
        copy.deepcopy(value)


def culprit(content: Any, test: Callable[[Any], object], error: Exception) -> str:
    """Return a sentence that names the attribute on which `test` fails; or nothing.

    Where the `error` is that a value holds itself, each attribute would fail so.
    """
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return ""
    modules = content.named_modules() if isinstance(content, nn.Module) else ()
    for path, module in modules:
        for name, value in vars(module).copy().items():
            if name in _OF_EVERY_MODULE:
                continue
            try:
                test(value)
            except Exception:  # noqa: BLE001 - whatever its author raises
                return f" It is {f'{path}.{name}'.lstrip('.')!r}."
    return ""
