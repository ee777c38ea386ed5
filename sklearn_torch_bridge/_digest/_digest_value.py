"""Digest any value: the table of the writer for each kind."""

from types import ModuleType
from typing import Any

import numpy as np
import torch

from sklearn_torch_bridge._digest._encoder import CACHE_KEY, Encoder, Writer
from sklearn_torch_bridge._digest._functions_and_classes import (
    CODE_WRITERS,
    write_class,
    write_module_of_code,
)
from sklearn_torch_bridge._digest._nn_modules import MODULE_WRITERS, write_operator
from sklearn_torch_bridge._digest._object_state import write_object, write_set
from sklearn_torch_bridge._digest._tensors_and_arrays import (
    write_array,
    write_scalar,
    write_tensor,
)
from sklearn_torch_bridge._errors import FingerprintError
from sklearn_torch_bridge._torch_private import OPERATOR_TYPES

__all__ = ["digest"]

_EXACT: dict[type, Writer] = {
    **CODE_WRITERS,
    np.ndarray: write_array,
    np.memmap: write_array,
    **dict.fromkeys(OPERATOR_TYPES, write_operator),
}
_WITH_SUBCLASSES: dict[type, Writer] = {
    **MODULE_WRITERS,
    torch.Tensor: write_tensor,
    type: write_class,
    ModuleType: write_module_of_code,
    np.generic: write_scalar,
    np.dtype: lambda encoder, dtype: encoder.put(b"dtype", repr(dtype).encode()),
    set: write_set,
    frozenset: write_set,
}


def digest(
    value: Any,
    *,
    name: str = "the value",
    advice: str = CACHE_KEY,
    lenient: bool = False,
) -> bytes:
    """Return 32 bytes for any value: the same in every process, others for others.

    Functions count by their code and all that it refers to, objects by their class
    and state, tensors by their values. The order of a dict counts, as a loop over it
    would show; that of a set does not.

    `name` is what errors call the value, and `advice` how they end. With `lenient`,
    what cannot be identified counts by its type and place alone.

    Raises `FingerprintError` where a part of the value cannot be identified.

    >>> digest({"scale": 2.0}) == digest({"scale": 2})
    False
    >>> digest(lambda x: 2 * x) == digest(lambda x: 2 * x)
    True
    """
    encoder = Encoder(writer_of=_writer_of, name=name, advice=advice, lenient=lenient)
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
    kinds = _WITH_SUBCLASSES.items()
    return next((write for kind, write in kinds if issubclass(cls, kind)), write_object)
