"""The fingerprint of a model with all settings that decide what a row becomes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike

from sklearn_torch_bridge._digest import digest
from sklearn_torch_bridge._types import Pool, Preprocess, Selector, Windows
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["FORMAT", "settings_fingerprint"]

FORMAT = 3
"""Raised when a change of this package changes results: then no old row is found."""


def settings_fingerprint(
    model_fingerprint: bytes,
    *,
    layer: str | Sequence[str] | None = None,
    output: Selector = None,
    pooling: str | Pool | None = "auto",
    preprocess: Preprocess | Any = None,
    prompt: Any = "",
    max_length: int | None = None,
    windows: Windows | None = None,
    precision: str | None = None,
    compile: Any = False,  # noqa: A002 - the name of the parameter of the extractor
    device_type: str = "cpu",
    dtype: DTypeLike | None = "float32",
    cache_key: str | None = None,
) -> bytes:
    """Return 32 bytes for a model with all settings that decide what a row becomes.

    Left out is what changes last bits alone: the size of batches, and the versions of
    torch and NumPy. How torch multiplies float32, and its default dtype, do more.

    `cache_key` always counts. Where it is given, parts that cannot be identified count
    by their type and place alone, all else as before; without it, such a part raises
    `FingerprintError`.
    """
    settings = {
        "layer": (layer,) if isinstance(layer, str) else layer and tuple(layer),
        "output": output,
        "pooling": _pooling_by_name(pooling),
        "preprocess": preprocess,
        "prompt": prompt,
        "max_length": max_length,
        "too_long": "cut" if windows is None else ("windows", windows.overlap),
        "precision": precision,
        "compile": compile,
        "device": device_type,
        "dtype": None if dtype is None else np.dtype(dtype),
        "torch": _arithmetic(device_type),
        "cache_key": cache_key,
    }
    digests = [
        digest(value, name=f"`{name}`", lenient=cache_key is not None)
        for name, value in settings.items()
    ]
    return digest((FORMAT, model_fingerprint, *digests))


def _pooling_by_name(pooling: Any) -> Any:
    """Return the name of a pooling of ours, also where its function is given."""
    if pooling is None:
        return "own tokens"  # before, rows were stored with what padded them
    pool = POOLINGS.get(pooling, pooling) if isinstance(pooling, str) else pooling
    names = {id(ours): name for name, ours in POOLINGS.items()}
    return names.get(id(pool), pool)


def _arithmetic(device_type: str) -> tuple[Any, ...]:
    """Return how torch computes with float32 on a device, and its default dtype."""
    backends: Any = torch.backends
    if hasattr(backends.cuda.matmul, "fp32_precision"):  # torch 2.9
        where = backends.mkldnn if device_type == "cpu" else backends.cudnn
        matmul = (backends.mkldnn if device_type == "cpu" else backends.cuda).matmul
        asked = [part.fp32_precision for part in (matmul, where.conv, where.rnn)]
        found = tuple("ieee" if one == "none" else one for one in asked)
    else:
        found = (torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32)
    return (torch.get_default_dtype(), *found)
