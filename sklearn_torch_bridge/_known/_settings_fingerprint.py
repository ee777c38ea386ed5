"""One fingerprint for all that decides what a row becomes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import nn

from sklearn_torch_bridge._digest import digest
from sklearn_torch_bridge._types import Pool, Preprocess, Selector
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["FORMAT", "fingerprint_module", "settings_fingerprint"]

FORMAT = 1
"""Goes up when anything here changes what a row becomes: then no old row is found."""


def fingerprint_module(module: nn.Module, *, cache_key: str | None = None) -> bytes:
    """Give 32 bytes for what a module computes in eval mode.

    That is its weights and buffers by their values, the classes of its parts with
    their code where that is the user's, all attributes that a forward can read, and
    forward hooks. A library's classes count by their names and its version (of torch
    and NumPy any). Not its training flag, gradients or device.

    Nothing is remembered but digests of tensors, each guarded by a checksum of all its
    values, so that no change is missed: 13 ms for MiniLM (91 MB, 120 modules), the
    first time 130 ms. Attributes that a forward changes, as counters, give another
    fingerprint, since a forward can read them.

    With a `cache_key`, parts that nothing can identify count by their type and place.

    Raises `FingerprintError` where there is such a part, and no `cache_key`.
    """
    return digest(module, name="`model`", lenient=cache_key is not None)


def settings_fingerprint(
    model_fingerprint: bytes,
    *,
    layer: str | Sequence[str] | None = None,
    output: Selector = None,
    pooling: str | Pool | None = "auto",
    preprocess: Preprocess | Any = None,
    precision: str | None = None,
    compile: Any = False,  # noqa: A002 - the name of the parameter of the extractor
    device_type: str = "cpu",
    dtype: DTypeLike | None = "float32",
    cache_key: str | None = None,
) -> bytes:
    """Give 32 bytes for a model with all settings that decide what a row becomes.

    Left out is what changes last bits alone: the size of batches, and the versions of
    torch and NumPy. How float32 is multiplied, and the default dtype, are settings
    of torch that do more; they count.

    `cache_key` always counts. Where it is given, parts of `pooling` and `preprocess`
    that nothing can identify count by their type and place alone, while all else
    counts as before: it stands for what is not seen, not for what is.

    Raises `FingerprintError` where a part cannot be identified and there is no
    `cache_key`.
    """
    settings = {
        "layer": (layer,) if isinstance(layer, str) else layer and tuple(layer),
        "output": output,
        "pooling": _pooling_by_name(pooling),
        "preprocess": preprocess,
        "precision": precision,
        "compile": compile,
        "device": device_type,
        "dtype": None if dtype is None else np.dtype(dtype),
        "torch": _arithmetic(device_type),
        "cache_key": cache_key,
    }
    lenient = cache_key is not None
    digests = [
        digest(value, name=f"`{name}`", lenient=lenient)
        for name, value in settings.items()
    ]
    return digest((FORMAT, model_fingerprint, *digests))


def _pooling_by_name(pooling: Any) -> Any:
    """Give the one name of each pooling of ours, also where its function is given."""
    pool = POOLINGS.get(pooling, pooling) if isinstance(pooling, str) else pooling
    names = {id(ours): name for name, ours in POOLINGS.items()}
    return names.get(id(pool), pool)


def _arithmetic(device_type: str) -> tuple[Any, ...]:
    """Ask torch for what it does with float32 there, and for its default dtype."""
    backends: Any = torch.backends
    if hasattr(backends.cuda.matmul, "fp32_precision"):  # torch 2.9
        where = backends.mkldnn if device_type == "cpu" else backends.cudnn
        matmul = (backends.mkldnn if device_type == "cpu" else backends.cuda).matmul
        asked = [part.fp32_precision for part in (matmul, where.conv, where.rnn)]
        found = tuple("ieee" if one == "none" else one for one in asked)
    else:
        found = (torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32)
    return (torch.get_default_dtype(), *found)
