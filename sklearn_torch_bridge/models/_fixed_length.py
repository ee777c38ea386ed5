"""To what length the documented call of a model of transformers pads every text.

Some (SigLIP) were trained on texts of one length, and read the padding as well. The
library says so in the defaults of their processor, or in the example that stands by
the method that takes texts.
"""

import importlib
import inspect
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from torch import nn

__all__ = ["NO_MAXIMUM", "FixedLength", "fixed_length"]

NO_MAXIMUM = 1_000_000
"""The maximum of a tokenizer from which on it has none: transformers writes 1e30."""

_MODELS = "transformers.models."
_PADS = re.compile(r"""padding\s*=\s*["']max_length["']""")
_LENGTH = re.compile(r"max_length\s*=\s*(\d+)")


class FixedLength(NamedTuple):
    """The tokens of every text with its padding; whether longer texts are cut."""

    n_tokens: int
    truncates: bool


def fixed_length(
    module: nn.Module, processor: Any, tokenizer: Any
) -> FixedLength | None:
    """Return how long all texts are made; None: as long as they are.

    `processor` is the caller's, if it is one; else that of the model counts.
    """
    model, home = _of_library(module)
    if model is None:
        return None
    own = hasattr(processor, "tokenizer")
    given = _defaults(type(processor) if own else _processor_class(home), tokenizer)
    if given.get("padding") != "max_length":
        given = _documented(model)
    if given.get("padding") != "max_length":
        return None
    config = getattr(model, "config", None)
    config = getattr(config, "text_config", config)
    positions = getattr(config, "max_position_embeddings", NO_MAXIMUM)
    length = min(given.get("max_length", tokenizer.model_max_length), positions)
    truncates = bool(given.get("truncation"))
    return FixedLength(length, truncates) if length < NO_MAXIMUM else None


def _of_library(module: nn.Module) -> tuple[nn.Module | None, str]:
    """Return the outermost model of transformers, and the package it is from."""
    for part in module.modules():
        for cls in type(part).__mro__:
            if cls.__module__.startswith(_MODELS):
                return part, cls.__module__.rpartition(".")[0]
    return None, ""


def _processor_class(home: str) -> Any:
    """Return the class of the processor that lies beside a model, if one does."""
    with suppress(ImportError):  # or what it needs is not installed
        beside = importlib.import_module(f"{home}.processing_{home.rpartition('.')[2]}")
        for name in beside.__all__:
            if name.endswith("Processor"):
                return getattr(beside, name)
    return None


def _defaults(processor: Any, tokenizer: Any) -> Mapping[str, Any]:
    """Return what a class of processors asks of the tokenizer by itself."""
    if processor is None:
        return {}
    before_5 = getattr(processor, "valid_processor_kwargs", None)
    given = {
        **getattr(processor, "text_kwargs", {}),
        **getattr(before_5, "_defaults", {}).get("text_kwargs", {}),
    }
    of_files = getattr(tokenizer, "init_kwargs", {})
    return given | {key: of_files[key] for key in ("padding",) if key in of_files}


def _documented(model: nn.Module) -> Mapping[str, Any]:
    """Return how the example of the method that takes texts calls the tokenizer."""
    example = inspect.getdoc(getattr(model, "get_text_features", model.forward)) or ""
    if not _PADS.search(example):
        return {}
    length = _LENGTH.search(example)
    found = {"max_length": int(length.group(1))} if length else {}
    return {"padding": "max_length", **found}
