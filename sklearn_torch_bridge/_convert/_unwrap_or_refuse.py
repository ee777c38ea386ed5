"""The values of any tensor on the CPU, without wrappers; refusal where it has none.

Refused are meta, fake, lazy, freed and traced tensors, and subclasses whose storage is
not their value. No memory is read before all checks, cheap ones first, have passed.
"""

from typing import Any

import torch
from torch.nn.parameter import is_lazy

from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._tensor_bytes import check_storage
from sklearn_torch_bridge._torch_private import (
    ignoring_subclass,
    is_functional,
    is_wrapped,
)

__all__ = ["SPARSE_LAYOUTS", "TENSOR_TYPES", "unwrap"]

SPARSE_LAYOUTS = (
    *(torch.sparse_coo, torch.sparse_csr, torch.sparse_csc),
    *(torch.sparse_bsr, torch.sparse_bsc),
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
TENSOR_TYPES = frozenset({torch.Tensor, torch.nn.Parameter})


def unwrap(tensor: torch.Tensor, *, allow_sparse: bool = False) -> torch.Tensor:
    """Return the values of `tensor` on the CPU, without graph, subclass or packing.

    They may share its memory, and are strided, unless `allow_sparse`.
    """
    if is_wrapped(tensor) or is_functional(tensor):
        msg = (
            f"{_summary(tensor)} only exists inside a torch.func transform. Return it "
            "from the transformed function and convert the result."
        )
        raise ConversionError(msg)
    whole = tensor if type(tensor) in TENSOR_TYPES else _without_subclass(tensor)
    if whole.is_meta:
        msg = (
            f"{_summary(whole)} is on the meta device: it has a shape but no values. "
            "Load the model's weights, or run it on a real device."
        )
        raise ConversionError(msg)
    if whole.is_nested:
        whole = _stack_nested(whole)
    if whole.is_quantized:
        whole = whole.dequantize()
    if whole.layout is not torch.strided:
        if whole.layout in SPARSE_LAYOUTS:
            if allow_sparse:
                return whole.detach()
            msg = f"{_summary(whole)} is sparse. Call .to_dense() first."
            raise ConversionError(msg)
        whole = whole.to_dense()
    check_storage(whole)
    if whole.requires_grad:  # asked first, since detaching costs as much as the checks
        whole = whole.detach()
    if whole.is_neg():
        # `copy_` from a contiguous half to a float tensor, or back, forgets the sign
        # (torch 2.13).
        whole = whole.resolve_neg()
    # In its own dtype; blocking, and dense on both sides: MPS writes strided memory of
    # the host amiss up to torch 2.13 and casts nothing in 2.14.0.
    return whole if whole.is_cpu else whole.contiguous().cpu()


def _without_subclass(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values of a subclass as a torch.Tensor, or refuse it."""
    if is_lazy(tensor):
        msg = (
            f"{type(tensor).__name__} belongs to a lazy module and has no shape yet. "
            "Run one forward pass first."
        )
        raise ConversionError(msg)
    kind = type(tensor)
    value: Any = None
    for base in kind.__mro__:
        if base.__module__.startswith("torch.") and base.__name__ in _SUBCLASS_HINTS:
            msg = f"{_summary(tensor)} {_SUBCLASS_HINTS[base.__name__]}"
            raise ConversionError(msg)
        if base.__name__ == "AsyncCollectiveTensor":
            value = tensor.wait()  # type: ignore[attr-defined] # the subclass has it
    if tensor.is_nested:
        return tensor
    if kind.dequantize is not torch.Tensor.dequantize:
        value = tensor.dequantize()
    elif kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__:
        with ignoring_subclass():
            return tensor.as_subclass(torch.Tensor)
    if type(value) in TENSOR_TYPES:
        return value  # type: ignore[no-any-return] # just checked
    msg = (
        f"{_summary(tensor)} is a subclass with its own __torch_dispatch__: its "
        "storage is not its value. Convert it to a plain torch.Tensor first."
    )
    raise ConversionError(msg)


def _stack_nested(nested: torch.Tensor) -> torch.Tensor:
    """Stack the components of a nested tensor, which must have one shape."""
    parts = nested.detach().unbind()
    shapes = {tuple(part.shape) for part in parts}
    if len(shapes) > 1:
        shown = ", ".join([*map(str, sorted(shapes)[:3]), "..."][: len(shapes)])
        msg = (
            f"a nested tensor with {len(parts)} components of different shapes "
            f"({shown}) has no array. Pool each "
            "component, or call torch.nested.to_padded_tensor(t, padding) first."
        )
        raise ConversionError(msg)
    return torch.stack(parts) if parts else torch.empty(0, device="cpu")


def _summary(tensor: torch.Tensor) -> str:
    kind, shape = type(tensor).__name__, tuple(tensor.shape)
    return f"a {kind} of shape {shape} and dtype {tensor.dtype}"
