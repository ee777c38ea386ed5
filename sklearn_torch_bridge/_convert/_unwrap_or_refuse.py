"""Any tensor as a plain one: detached, strided or sparse, on the CPU; or why not.

The checks run from the cheap ones that touch nothing to those that ask for storage;
no memory is read before all of them have passed.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import _disable_current_modes

from sklearn_torch_bridge._errors import ConversionError

__all__ = [
    "PLAIN_TYPES",
    "SPARSE_LAYOUTS",
    "count_modes",
    "is_wrapped",
    "outside_modes",
    "plain",
]

SPARSE_LAYOUTS = (
    torch.sparse_coo,
    torch.sparse_csr,
    torch.sparse_csc,
    torch.sparse_bsr,
    torch.sparse_bsc,
)

# Subclasses known by name, so that none of their modules has to be imported.
_SUBCLASS_HINTS = {
    "FakeTensor": "has a shape but no values. Run the model on real tensors.",
    "FunctionalTensor": "exists only while a graph is traced. Convert its result.",
    "MaskedTensor": (
        "would lose its mask. Call .to_tensor(fill) first, for example with "
        "fill=float('nan')."
    ),
    "DTensor": (
        "is spread over processes, and gathering it needs all of them. Call "
        ".full_tensor() on every rank, or .to_local() for this one's part."
    ),
}
PLAIN_TYPES = frozenset({torch.Tensor, torch.nn.Parameter})

# torch has no public way to ask these; each answers in a fraction of a microsecond.
count_modes = torch._C._len_torch_dispatch_stack  # noqa: SLF001 - see above
is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor  # noqa: SLF001 - see above
_is_functional = torch._is_functional_tensor  # noqa: SLF001 - see above

_P = ParamSpec("_P")
_T = TypeVar("_T")


def outside_modes(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run `function` unseen by dispatch modes (tracing, fake tensors) of the caller."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        # Asked first: entering and leaving costs more than a small conversion.
        if count_modes() == 0:
            return function(*args, **kwargs)
        with _disable_current_modes():
            return function(*args, **kwargs)

    return wrapped


def plain(tensor: torch.Tensor, *, allow_sparse: bool = False) -> torch.Tensor:
    """Give the values of `tensor` without its graph, subclass, packing or device.

    The result is strided, or where that is allowed sparse as it was, and may share
    memory with `tensor`.
    """
    if is_wrapped(tensor) or _is_functional(tensor):
        msg = (
            f"{_describe(tensor)} only exists inside a torch.func transform. Return it "
            "from the transformed function and convert the result."
        )
        raise ConversionError(msg)
    whole = tensor if type(tensor) in PLAIN_TYPES else _unwrapped(tensor)
    if whole.is_meta:
        msg = (
            f"{_describe(whole)} has a shape but no values. Load the model's weights, "
            "or run it on a real device."
        )
        raise ConversionError(msg)
    if whole.is_nested:
        whole = _stacked(whole)
    if whole.is_quantized:
        whole = whole.dequantize()
    if whole.layout is not torch.strided:
        if whole.layout in SPARSE_LAYOUTS and allow_sparse:
            return whole.detach()
        if whole.layout in SPARSE_LAYOUTS:
            msg = f"{_describe(whole)} is sparse. Call .to_dense() first."
            raise ConversionError(msg)
        whole = whole.to_dense()
    _check_storage(whole)
    if whole.requires_grad:  # asked first, since detaching costs as much as the checks
        whole = whole.detach()
    if whole.is_neg():
        # `copy_` from a contiguous half to a float tensor, or back, forgets the sign
        # (torch 2.13).
        whole = whole.resolve_neg()
    return whole if whole.is_cpu else _on_host(whole)


def _unwrapped(tensor: torch.Tensor) -> torch.Tensor:
    """Take the plain tensor out of a subclass whose storage is its value."""
    if is_lazy(tensor):
        msg = (
            f"{type(tensor).__name__} belongs to a lazy module and has no shape yet. "
            "Run one forward pass first."
        )
        raise ConversionError(msg)
    kind = type(tensor)
    for base in kind.__mro__:
        if base.__module__.startswith("torch.") and base.__name__ in _SUBCLASS_HINTS:
            msg = f"{_describe(tensor)} {_SUBCLASS_HINTS[base.__name__]}"
            raise ConversionError(msg)
        if base.__name__ == "AsyncCollectiveTensor":
            return _only_plain(tensor, tensor.wait())  # type: ignore[attr-defined] # the subclass has it
    if tensor.is_nested:
        return tensor
    if kind.dequantize is not torch.Tensor.dequantize:
        return _only_plain(tensor, tensor.dequantize())
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise ConversionError(_own_storage(tensor))
    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - documented under this name
        return tensor.as_subclass(torch.Tensor)


def _only_plain(tensor: torch.Tensor, value: Any) -> torch.Tensor:
    if type(value) in PLAIN_TYPES:
        return value  # type: ignore[no-any-return] # just checked
    raise ConversionError(_own_storage(tensor))


def _own_storage(tensor: torch.Tensor) -> str:
    return (
        f"{_describe(tensor)} is a subclass with its own __torch_dispatch__: its "
        "storage is not its value. Convert it to a plain torch.Tensor first."
    )


def _stacked(nested: torch.Tensor) -> torch.Tensor:
    """Stack the components of a nested tensor, which must have one shape."""
    parts = nested.detach().unbind()
    shapes = {tuple(part.shape) for part in parts}
    if len(shapes) > 1:
        shown = ", ".join(map(str, sorted(shapes)[:3]))
        msg = (
            f"a nested tensor with {len(parts)} components of different shapes "
            f"({shown}{', ...' if len(shapes) > 3 else ''}) has no array. Pool each "  # noqa: PLR2004 - as many as are shown
            "component, or call torch.nested.to_padded_tensor(t, padding) first."
        )
        raise ConversionError(msg)
    return torch.stack(parts) if parts else torch.empty(0, device="cpu")


def _check_storage(tensor: torch.Tensor) -> None:
    """Refuse a tensor whose memory was given back: reading it returns garbage."""
    try:
        held_bytes = tensor.untyped_storage().nbytes()
    except NotImplementedError:  # devices whose tensors have no storage, as XLA's
        return
    needed_bytes = int(tensor.nbytes)
    if needed_bytes and not (tensor.is_contiguous() and tensor.storage_offset() == 0):
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        last = tensor.storage_offset() + sum((size - 1) * step for size, step in steps)
        needed_bytes = int(last + 1) * tensor.element_size()
    if needed_bytes > held_bytes:
        msg = (
            f"{_describe(tensor)} needs {needed_bytes} bytes but its storage holds "
            f"{held_bytes}: it was freed or resized (an FSDP-sharded parameter, an "
            "offloaded model?). Gather or load the values first."
        )
        raise ConversionError(msg)


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    """Copy to the CPU in its own dtype; blocking, and dense on both sides.

    Other orders are wrong on some devices: MPS writes strided host memory amiss up to
    torch 2.13 and casts nothing in 2.14.0.
    """
    return tensor.contiguous().cpu()


def _describe(tensor: torch.Tensor) -> str:
    return (
        f"a {type(tensor).__name__} of shape {tuple(tensor.shape)} "
        f"and dtype {tensor.dtype}"
    )
