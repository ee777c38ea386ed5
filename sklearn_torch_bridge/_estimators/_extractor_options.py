"""The options of `TorchFeatureExtractor`, checked when they are used: a request."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal

import numpy as np
import torch

from sklearn_torch_bridge._checks import (
    SELECTOR_WORDS,
    check_dtype_name,
    check_options,
    check_positive_int,
    is_selector,
    must_be,
    one_of,
)
from sklearn_torch_bridge._devices import check_device
from sklearn_torch_bridge._known import (
    cache_at,
    fingerprint_model,
    settings_fingerprint,
)
from sklearn_torch_bridge._replica import Reading
from sklearn_torch_bridge._run import PRECISIONS, RunOptions, reporter
from sklearn_torch_bridge._types import Pool, Selector, TooLong, Windows
from sklearn_torch_bridge.cache import EmbeddingCache
from sklearn_torch_bridge.models import check_no_pairs
from sklearn_torch_bridge.pooling import POOLINGS

__all__ = ["Request", "request_of"]

_INTS = (int, np.integer)
_COMPILES_FROM = (2, 13)  # of torch: names of its compiler that are not public


_OF_WHOLE_ROWS = [POOLINGS[name] for name in ("flatten", "gap", "gmp")]


@dataclass(frozen=True)
class Request:
    """The options of an extractor; `label` is what bars and errors call it."""

    model: Any
    layer: Any
    output: Selector
    pool: Pool | None
    dtype: np.dtype[Any] | None
    run: RunOptions
    preprocess: Any = None
    store: EmbeddingCache | None = None
    cache_key: str | None = None
    label: str = "TorchFeatureExtractor"
    prompt: str | None = None
    max_length: int | None = None
    too_long: TooLong = "warn"
    truncate_dim: int | None = None

    @property
    def device(self) -> torch.device:
        """The device of the first replica."""
        return check_device(self.run.devices[0])

    def readings(self, layers: Sequence[str]) -> tuple[Reading, ...]:
        """Return one reading a layer."""
        vector = len(layers) > 1 or self.pool is not None
        names = layers or ("",)
        return tuple(Reading(name, self.output, self.pool, vector) for name in names)

    @property
    def windows(self) -> Windows | None:
        """How long rows are read whole; None where they are not."""
        if self.too_long == "windows":
            return Windows()
        return self.too_long if isinstance(self.too_long, Windows) else None

    def model_fingerprint(self) -> bytes:
        """Return 32 bytes for what the model computes."""
        return fingerprint_model(self.model, cache_key=self.cache_key)

    def fingerprint(self, model: bytes, reading: Reading, prompt: Any) -> bytes:
        """Return 32 bytes for all that decides what a row becomes under a reading.

        `prompt` is what counts of the prompt.
        """
        return settings_fingerprint(
            model,
            layer=reading.layer or None,
            output=reading.output,
            pooling=reading.pool,
            preprocess=self.preprocess,
            prompt=prompt,
            max_length=self.max_length,
            windows=self.windows,
            precision=self.run.precision,
            compile=self.run.compile,
            device_type=self.device.type,
            dtype=self.dtype,
            cache_key=self.cache_key,
        )


def request_of(extractor: Any) -> Request:
    """Check all options of an extractor."""
    check_options(extractor, _CHECKS)
    if extractor.preprocess is None:
        check_no_pairs(extractor.model)
    _check_container(extractor)
    label = type(extractor).__name__
    run = RunOptions(
        devices=_check_devices(extractor.device),
        batch_size=_check_batch_size(extractor.batch_size),
        precision=extractor.precision,
        compile=bool(extractor.compile),
        report=reporter(label=label, verbose=extractor.verbose),
        on_error=extractor.on_error,
        num_workers=int(extractor.num_workers),
        keeps_rows=extractor.cache is not None,
    )
    pool = _check_pooling(extractor.pooling)
    if isinstance(extractor.too_long, Windows) or extractor.too_long == "windows":
        _check_of_windows(extractor.pooling, pool)
    return Request(
        model=extractor.model,
        layer=extractor.layer,
        output=extractor.output,
        pool=pool,
        dtype=_check_dtype(extractor),
        run=run,
        preprocess=extractor.preprocess,
        store=_check_cache(extractor.cache),
        cache_key=extractor.cache_key,
        label=label,
        prompt=extractor.prompt,
        max_length=extractor.max_length,
        too_long=extractor.too_long,
        truncate_dim=extractor.truncate_dim,
    )


def _check_container(extractor: Any) -> None:
    """Refuse `set_output` for results with all their axes."""
    container = extractor._container()  # noqa: SLF001 - of the estimators
    if extractor.pooling is None and container != "default":
        msg = (
            "`pooling` must not be None with set_output(transform="
            f"{container!r}): a frame has two axes, and rows keep all of theirs."
        )
        raise ValueError(msg)


def _check_dtype(extractor: Any) -> np.dtype[Any] | None:
    dtype = check_dtype_name("dtype", extractor.dtype)
    if extractor.on_error == "nan" and dtype is not None and dtype.kind not in "fc":
        msg = f"`dtype` must hold NaN for `on_error`='nan', got {extractor.dtype!r}."
        raise ValueError(msg)
    return dtype


def _check_cache(cache: Any) -> EmbeddingCache | None:
    if cache is None or isinstance(cache, EmbeddingCache):
        return cache
    if isinstance(cache, (str, os.PathLike)):
        return cache_at(cache)
    msg = f"`cache` must be a path, an EmbeddingCache or None, got {cache!r}."
    raise TypeError(msg)


def _check_batch_size(size: Any) -> int | Literal["auto"]:
    if isinstance(size, str) and size == "auto":
        return "auto"
    try:
        return check_positive_int("batch_size", size)
    except (TypeError, ValueError) as error:
        msg = f"`batch_size` must be an int of at least 1 or 'auto', got {size!r}."
        raise type(error)(msg) from None


def _check_compile(name: str, value: Any) -> None:
    one_of(False, True)(name, value)
    version: Any = torch.__version__  # which compares with tuples
    if value and version < _COMPILES_FROM:
        needed = ".".join(map(str, _COMPILES_FROM))
        msg = f"`{name}` must be False with torch {version}: it needs torch {needed}."
        raise ValueError(msg)


def _check_devices(device: Any) -> tuple[Any, ...]:
    devices = tuple(device) if isinstance(device, (list, tuple)) else (device,)
    if not devices:
        msg = "`device` must name at least one device, got an empty list."
        raise ValueError(msg)
    for one in devices:
        check_device(one)
    return devices


def _check_pooling(pooling: Any) -> Pool | None:
    if isinstance(pooling, str):
        kinds = f"one of {', '.join(map(repr, POOLINGS))}, a callable or None"
        must_be(kinds, POOLINGS.__contains__, ValueError)("pooling", pooling)
        return POOLINGS[pooling]
    must_be("a name, a callable or None", _is_callable)("pooling", pooling)
    pool: Pool | None = pooling
    return pool


def _check_of_windows(pooling: Any, pool: Pool | None) -> None:
    """Refuse poolings that make no vector a window, from which a row's is made."""
    if pool in _OF_WHOLE_ROWS:
        msg = (
            "`pooling` must be 'mean', 'max', 'cls', 'last', 'auto', a callable or "
            f"None where long rows are read in windows (`too_long`), got {pooling!r}. "
            "Take one of these, or cut long rows (`too_long`='cut')."
        )
        raise ValueError(msg)


def _is_callable(value: Any) -> bool:
    return value is None or callable(value)


def _check_too_long(name: str, value: Any) -> None:
    if not isinstance(value, Windows):
        _CHECK_POLICY(name, value)


def _check_size(name: str, value: Any) -> None:
    if value is not None:
        check_positive_int(name, value)


_CHECK_POLICY = one_of("warn", "cut", "windows", "raise")
_CHECK_COUNT = must_be(
    "an int of at least 0", lambda one: isinstance(one, _INTS) and one >= 0, ValueError
)
_CHECK_STR = must_be("a str or None", lambda one: isinstance(one, (str, NoneType)))
_CHECKS = {
    "preprocess": must_be("a callable, a tokenizer or None", _is_callable),
    "output": must_be(SELECTOR_WORDS, is_selector),
    "precision": one_of(None, *PRECISIONS),
    "compile": _check_compile,
    "cache_key": _CHECK_STR,
    "prompt": _CHECK_STR,
    "max_length": _check_size,
    "truncate_dim": _check_size,
    "too_long": _check_too_long,
    "on_error": one_of("raise", "nan"),
    "num_workers": _CHECK_COUNT,
    "verbose": _CHECK_COUNT,
}
