"""Digest any value: the table of who writes what."""

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_torch_bridge._digest._array_bytes import (
    write_array,
    write_scalar,
    write_tensor,
)
from sklearn_torch_bridge._digest._encoder import CACHE_KEY, Encoder, Writer
from sklearn_torch_bridge._digest._functions import (
    CODE_WRITERS,
    write_class,
    write_module_of_code,
)
from sklearn_torch_bridge._digest._nn_modules import (
    write_module,
    write_operator,
    write_script_function,
    write_script_object,
)
from sklearn_torch_bridge._digest._objects import write_object, write_set
from sklearn_torch_bridge._errors import FingerprintError

__all__ = ["digest"]

_EXACT: dict[type, Writer] = {
    **CODE_WRITERS,
    np.ndarray: write_array,
    np.memmap: write_array,
    torch._ops.OpOverload: write_operator,  # noqa: SLF001 - they have no public name
    torch._ops.OpOverloadPacket: write_operator,  # noqa: SLF001 - no public way
}
_WITH_SUBCLASSES: tuple[tuple[type, Writer], ...] = (
    (nn.Module, write_module),
    (torch.Tensor, write_tensor),
    (type, write_class),
    (ModuleType, write_module_of_code),
    (np.generic, write_scalar),
    (np.dtype, lambda encoder, dtype: encoder.put(b"dtype", repr(dtype).encode())),
    (torch.jit.ScriptFunction, write_script_function),
    (torch.ScriptObject, write_script_object),
    (set, write_set),
    (frozenset, write_set),
)


def digest(
    value: Any,
    *,
    name: str = "the value",
    advice: str = CACHE_KEY,
    lenient: bool = False,
) -> bytes:
    """Sum up any value in 32 bytes: the same in every process, different for others.

    Functions count by their code and all that it refers to, objects by their class
    and state, tensors by their values. The order of a dict counts, as a loop over it
    would show; that of a set does not.

    `name` is what errors call the value, and `advice` how they end. With `lenient`,
    what nothing can identify counts by its type and place alone.

    Raises `FingerprintError` where a part of the value cannot be identified.

    >>> digest({"scale": 2.0}) == digest({"scale": 2})
    False
    >>> digest(lambda x: 2 * x) == digest(lambda x: 2 * x)
    True
    """
    encoder = Encoder(_writer_of, name=name, advice=advice, lenient=lenient)
    try:
        encoder.add(value)
    except RecursionError as error:
        msg = f"{name} cannot be fingerprinted: it is nested too deeply. {advice}"
        raise FingerprintError(msg) from error
    return encoder.digest()


def _writer_of(value: Any) -> Writer:
    cls = type(value)
    exact = _EXACT.get(cls)
    if exact is not None:
        return exact
    for kind, writer in _WITH_SUBCLASSES:
        if issubclass(cls, kind):
            return writer
    return write_object
