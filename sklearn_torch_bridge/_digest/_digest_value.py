"""Digest any value: the table of the writer for each kind."""

import threading
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_torch_bridge._digest._encoder import CACHE_KEY, Encoder, Writer
from sklearn_torch_bridge._digest._functions_and_classes import (
    CODE_WRITERS,
    write_class,
    write_module_of_code,
)
from sklearn_torch_bridge._digest._library_or_user_code import library_of
from sklearn_torch_bridge._digest._nn_modules import MODULE_WRITERS, write_operator
from sklearn_torch_bridge._digest._object_state import (
    write_context_variable,
    write_object,
    write_set,
    write_thread_local,
)
from sklearn_torch_bridge._digest._tensors_and_arrays import (
    write_array,
    write_scalar,
    write_tensor,
)
from sklearn_torch_bridge._errors import FingerprintError
from sklearn_torch_bridge._tokenizers import is_tokenizer
from sklearn_torch_bridge._torch_private import OPERATOR_TYPES

__all__ = ["digest", "names_mentioned"]

_SMALL = 1 << 16  # bytes, which take 0.1 ms

_EXACT: dict[type, Writer] = {
    **CODE_WRITERS,
    np.ndarray: write_array,
    np.memmap: write_array,
    ContextVar: write_context_variable,
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
    threading.local: write_thread_local,
}


def digest(
    value: Any,
    *,
    name: str = "the value",
    advice: str = CACHE_KEY,
    lenient: bool = False,
    within_run: bool = False,
) -> bytes:
    """Return 32 bytes for any value: the same in every process, others for others.

    Functions count by their code and all that it refers to, objects by their class
    and state, tensors by their values. The order of a dict counts, as a loop over it
    would show; that of a set does not.

    `name` is what errors call the value, and `advice` how they end. With `lenient`,
    what cannot be identified counts by its type and place alone. With `within_run`,
    what is large or of a library counts by its identity: enough to see whether the
    user's code has changed something since the last such digest.

    Raises `FingerprintError` where a part of the value cannot be identified.

    >>> digest({"scale": 2.0}) == digest({"scale": 2})
    False
    >>> digest(lambda x: 2 * x) == digest(lambda x: 2 * x)
    True
    """
    writer_of = _quick_writer_of if within_run else _writer_of
    encoder = Encoder(writer_of=writer_of, name=name, advice=advice, lenient=lenient)
    try:
        encoder.add(value)
        return encoder.digest()
    except RecursionError as error:
        msg = f"{name} cannot be fingerprinted: it is nested too deeply. {advice}"
        raise FingerprintError(msg) from error


def names_mentioned(value: Any) -> frozenset[str]:
    """Return the names that the user's code in a value mentions, and of attributes."""
    encoder = Encoder(writer_of=_quick_writer_of, name="", advice="", lenient=True)
    encoder.add(value)
    return encoder.working.mentioned()


def _writer_of(value: Any) -> Writer:
    cls = type(value)
    exact = _EXACT.get(cls)
    if exact is not None:
        return exact
    kinds = _WITH_SUBCLASSES.items()
    return next((write for kind, write in kinds if issubclass(cls, kind)), write_object)


def _quick_writer_of(value: Any) -> Writer:
    cls = type(value)
    is_large = isinstance(value, (np.ndarray, torch.Tensor)) and value.nbytes > _SMALL
    is_of_library = isinstance(value, nn.Module) and library_of(cls.__module__)
    if is_large or is_of_library or is_tokenizer(value):
        return _write_identity
    return _writer_of(value)


def _write_identity(encoder: Encoder, value: Any) -> None:
    encoder.put(b"same", b"%d" % id(value))
