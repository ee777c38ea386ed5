"""What a model takes: found in one place, once a call, and handed down."""

import inspect
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import nn

from sklearn_torch_bridge._devices import float_dtype
from sklearn_torch_bridge.models._padding_masks import MASKS
from sklearn_torch_bridge.models._read_only_models import only_reads

__all__ = ["AcceptedInputs"]

_MAPPINGS = ("dict", "mapping")


class AcceptedInputs:
    """What the forward of a module takes; each fact is found when it is asked for.

    >>> accepts = AcceptedInputs(nn.TransformerEncoderLayer(4, 1))
    >>> accepts.mask, accepts.needs_mask
    ('src_key_padding_mask', False)
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @cached_property
    def dtype(self) -> torch.dtype:
        """The dtype that floats are cast to."""
        return float_dtype(self.module)

    @cached_property
    def only_reads(self) -> bool:
        """Whether the model is known not to write to its rows."""
        return only_reads(self.module)

    @cached_property
    def _signature(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self.module.forward)
        except ValueError:  # a forward without code of Python
            return None

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the forward; none where nobody knows them."""
        return self._signature.parameters if self._signature else {}

    @cached_property
    def names(self) -> frozenset[str] | None:
        """The names of its arguments; None where any may be given, or nobody knows."""
        found = self.parameters
        takes_any = any(one.kind is one.VAR_KEYWORD for one in found.values())
        return None if takes_any or self._signature is None else frozenset(found)

    def takes_one_mapping(self, names: Iterable[str]) -> bool:
        """Return whether values by these names are its one argument, as a mapping.

        They are no arguments, and its annotation or its code says what they are.
        """
        signature, named = self._signature, set(names)
        if signature is None or _binds(signature, (), named):
            return False
        first = next(iter(self.parameters.values()), None)
        if first is None or not _binds(signature, ({},), ()):
            return False
        says = any(word in str(first.annotation).lower() for word in _MAPPINGS)
        code: Any = getattr(self.module.forward, "__code__", None)
        return says or not named.isdisjoint(getattr(code, "co_consts", ()))

    @cached_property
    def mask(self) -> str | None:
        """What the forward calls its padding mask."""
        # Of code first: a signature takes a tenth of the time of a call for one row.
        code: Any = getattr(self.module.forward, "__code__", None)
        takes_any = code is None or bool(code.co_flags & inspect.CO_VARKEYWORDS)
        if not takes_any and MASKS.keys().isdisjoint(code.co_varnames):
            return None
        return next((name for name in MASKS if name in self.parameters), None)

    @cached_property
    def padding_id(self) -> int:
        """The id that pads integers, where the model embeds them; else 0."""
        config = getattr(self.module, "config", None)
        for one in (config, getattr(config, "text_config", None)):
            found = getattr(one, "pad_token_id", None)
            if isinstance(found, int) and found >= 0:
                return found
        embeddings = (
            part.padding_idx
            for part in self.module.modules()
            if isinstance(part, (nn.Embedding, nn.EmbeddingBag))
        )
        return next((found for found in embeddings if found is not None), 0)

    @property
    def needs_mask(self) -> bool:
        """Whether the forward cannot be called without its mask."""
        required = inspect.Parameter.empty
        return self.mask is not None and self.parameters[self.mask].default is required


def _binds(
    signature: inspect.Signature, args: tuple[Any, ...], names: Iterable[str]
) -> bool:
    """Return whether a call with such arguments is one."""
    try:
        signature.bind(*args, **dict.fromkeys(names))
    except TypeError:
        return False
    return True
