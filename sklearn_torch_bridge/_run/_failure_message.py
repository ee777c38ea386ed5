"""What is said of a model that failed: the rows, the part of it, and a way out."""

from types import TracebackType

import torch
from torch import nn

from sklearn_torch_bridge._row_numbers import count_rows, describe_rows
from sklearn_torch_bridge._run._failed_batches import is_out_of_memory
from sklearn_torch_bridge._types import Inputs, Rows

__all__ = ["failure_message"]


def failure_message(
    error: Exception,
    module: nn.Module,
    layers: tuple[str, ...],
    places: Rows,
    inputs: Inputs,
) -> str:
    """Name the rows and the part of the model that failed, and on the way to what."""
    goal = ", ".join(repr(layer) if layer else "the model's output" for layer in layers)
    part = _innermost(module, error.__traceback__)
    where = f"submodule {part!r}" if part else "the model's own forward"
    hint = ""
    given = inputs.args[0] if len(inputs.args) == 1 else None
    if isinstance(given, torch.Tensor) and not given.is_floating_point():
        hint = (
            f" `X` holds {given.dtype}, and integers are passed on as they are: for a "
            "model that takes floats give X.astype('float32')."
        )
    if is_out_of_memory(error) and count_rows(places) == 1:
        where += " (out of memory, with this row alone)"
    return (
        f"the model failed on {describe_rows(places)}, in {where} on the way to "
        f"{goal}: {type(error).__name__}: {error}{hint}"
    )


def _innermost(module: nn.Module, trace: TracebackType | None) -> str:
    """Return the name of the innermost submodule whose code is on the traceback."""
    names = {id(part): name for name, part in module.named_modules()}
    found = ""
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        found = names.get(id(owner), found) or found
        trace = trace.tb_next
    return found
