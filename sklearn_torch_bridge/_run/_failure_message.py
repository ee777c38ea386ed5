"""What is said of a model that failed: the rows, the part of it, and a way out."""

import re
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from torch import nn

from sklearn_torch_bridge._row_numbers import as_indices, count_rows, describe_rows
from sklearn_torch_bridge._run._failed_batches import is_out_of_memory
from sklearn_torch_bridge._run._failed_lookup import (
    IDS,
    explain,
    tensors_given,
    wants_ids,
)
from sklearn_torch_bridge._types import Inputs, Rows

__all__ = ["failure_message"]

# In the words of PyTorch: dtypes by the names of C++, or of Python.
_OF_INTEGERS = re.compile(
    r"\b(Long|Int|Short|Byte|Char|Bool|long|short|unsigned char|bool|torch.u?int\d+)\b"
)
_OF_DTYPES = re.compile(r"dtype|datatype|scalar type")


def failure_message(
    error: Exception,
    module: nn.Module,
    layers: tuple[str, ...],
    inputs: Inputs,
    *,
    rows: Rows,
    caller_rows: Callable[[Rows], Rows],
) -> str:
    """Name the rows and the part of the model that failed, and on the way to what."""
    goal = ", ".join(repr(layer) if layer else "the model's output" for layer in layers)
    part = _innermost(module, error.__traceback__)
    where = f"submodule {part!r}" if part else "the model's own forward"
    found = None
    with suppress(Exception):  # a device that has failed tells nothing more
        found = explain(error, module, inputs)
    if found is not None and found.row is not None and count_rows(rows) > 1:
        rows = as_indices(rows)[found.row : found.row + 1]
    hint = found.words if found else _dtype_hint(error, inputs)
    if is_out_of_memory(error) and count_rows(rows) == 1:
        where += " (out of memory, with this row alone)"
    said = f"{error}".rstrip(".") + f". {hint}" if hint else f"{error}"
    return (
        f"the model failed on {describe_rows(caller_rows(rows))}, in {where} on the "
        f"way to {goal}: {type(error).__name__}: {said}"
    )


def _dtype_hint(error: Exception, inputs: Inputs) -> str:
    """Return what to do where a model takes numbers of another kind."""
    given, said = list(tensors_given(inputs)), str(error)
    if wants_ids(error):
        wrong = [(name, one) for name, one in given if one.dtype not in IDS]
        advice = "the model takes ids here, which are integers: give X.astype('int64')."
    else:
        # Of several inputs another may be the one, unless integers are spoken of.
        fits = _OF_INTEGERS.search(said) or (
            len(given) == 1 and _OF_DTYPES.search(said)
        )
        wrong = [pair for pair in given if fits and not pair[1].is_floating_point()]
        advice = (
            "integers are passed on as they are: for a model that takes floats give "
            "X.astype('float32')."
        )
    if not wrong:
        return ""
    name, first = wrong[0]
    return f"{name} holds {first.dtype}, and {advice}"


def _innermost(module: nn.Module, trace: TracebackType | None) -> str:
    """Return the name of the innermost submodule whose code is on the traceback."""
    names = {id(part): name for name, part in module.named_modules()}
    found = ""
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        found = names.get(id(owner), found) or found
        trace = trace.tb_next
    return found
