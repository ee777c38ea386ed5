"""How long a row may be: the tokens of a text, the values of a sound or an array.

It is the maximum of the tokenizer or, where that is smaller or alone, of the positions
of the model; of a feature extractor its fixed length; or what `max_length` asks for.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge.models._fixed_length import NO_MAXIMUM, FixedLength

__all__ = [
    "CutRows",
    "Maximum",
    "Unit",
    "check_length",
    "longest_position",
    "longest_sound",
    "longest_text",
    "smallest",
]

Unit = Literal["tokens", "values"]
Whose = Literal["tokenizer", "positions", "model", "extractor", "max_length"]

_WORDS = {
    "tokenizer": "the maximum of the tokenizer",
    "positions": "the maximum of the model's positions",
    "model": "the maximum of the model",
    "extractor": "the maximum of the feature extractor",
    "max_length": "`max_length`",
}
_FRAMES_A_SECOND = 100
_NOMINAL = ("max_position_embeddings", "max_encoder_position_embeddings")
_NOT_ABSOLUTE = ("rel", "visual", "2d", "x_pos", "y_pos")


@dataclass(frozen=True)
class Maximum:
    """The tokens or values that a row may have, and who says so.

    >>> print(Maximum(512, "tokens", "tokenizer"))
    512 tokens, the maximum of the tokenizer
    """

    n: int
    unit: Unit
    whose: Whose

    def __str__(self) -> str:
        return f"{self.n} {self.unit}, {_WORDS[self.whose]}"


class CutRows(Protocol):
    """What prepares rows and cuts those that are too long, which `unit` is counted in.

    No row can be shorter than `least`.
    """

    unit: Unit
    least: int

    @property
    def maximum(self) -> Maximum | None:
        """How long a row may be; None where nothing is cut."""

    def full_lengths(self, rows: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return how long rows are before they are cut; None where nobody knows."""

    def cut_at(self, maximum: Maximum) -> Self:
        """Return what cuts rows there instead."""


def longest_text(
    module: nn.Module, tokenizer: Any, fixed: FixedLength | None = None
) -> Maximum | None:
    """Return how many tokens a text may have; None where nothing limits them."""
    found = [longest_position(module)]
    if fixed is not None and fixed.truncates:
        found.append(Maximum(fixed.n_tokens, "tokens", "model"))
    longest = tokenizer.model_max_length
    if longest is not None and longest < NO_MAXIMUM:
        found.append(Maximum(int(longest), "tokens", "tokenizer"))
    return smallest(*found)


def longest_sound(extractor: Any) -> Maximum | None:
    """Return how many values of a sound a feature extractor takes; None: all of them.

    Whisper's and CLAP's count values, that of AST frames of 25 ms every 10 ms.
    """
    found = getattr(extractor, "nb_max_samples", None)
    if found is None and hasattr(extractor, "nb_max_frames"):
        asked = inspect.signature(extractor.__call__).parameters.get("truncation")
        cuts = asked is not None and asked.default is True
        found = getattr(extractor, "n_samples", None) if cuts else None
    if found is None and hasattr(extractor, "num_mel_bins"):
        n_frames = getattr(extractor, "max_length", None)
        hop = int(extractor.sampling_rate) // _FRAMES_A_SECOND
        found = n_frames and (n_frames + 1) * hop + hop // 2 + hop - 1
    return Maximum(int(found), "values", "extractor") if found else None


def smallest(*found: Maximum | None) -> Maximum | None:
    """Return the smallest of several, the last of equal ones."""
    known = [one for one in found if one is not None]
    return min(reversed(known), key=lambda one: one.n, default=None)


def check_length(
    max_length: int | None, maximum: Maximum | None, *, unit: Unit, least: int = 1
) -> Maximum | None:
    """Return the maximum that holds with `max_length`, which must not be above it.

    >>> print(check_length(64, Maximum(512, "tokens", "tokenizer"), unit="tokens"))
    64 tokens, `max_length`
    """
    if max_length is None:
        return maximum
    if maximum is not None and max_length > maximum.n:
        msg = f"`max_length` must be at most {maximum}, got {max_length}."
        raise ValueError(msg)
    if max_length < least:
        msg = (
            f"`max_length` must be at least {least} {unit}, one beside the special "
            f"ones and the prompt, got {max_length}."
        )
        raise ValueError(msg)
    asked = Maximum(int(max_length), unit, "max_length")
    return asked if maximum is None else replace(asked, unit=maximum.unit)


def longest_position(module: nn.Module) -> Maximum | None:
    """Return how many positions the part of a model that takes texts has.

    Where they are looked up in a table, that has a row for each, behind some that are
    left out (of RoBERTa for padding, of BART two).
    """
    for part in module.modules():
        config = getattr(part, "config", None)
        config = getattr(config, "text_config", None) or config
        given = (getattr(config, name, None) for name in _NOMINAL)
        nominal = next((found for found in given if found is not None), None)
        if isinstance(nominal, int) and 0 < nominal < NO_MAXIMUM:
            sizes = [size for size in _tables(part, nominal) if size > 0]
            return Maximum(min([nominal, *sizes]), "tokens", "positions")
    return None


def _tables(part: nn.Module, nominal: int) -> Iterator[int]:
    """Yield how many tokens have a place in each table of about `nominal` positions."""
    for parent in part.modules():
        for name, table in parent.named_children():
            if not isinstance(table, nn.Embedding) or table.num_embeddings < nominal:
                continue  # of another tower
            is_position = "pos" in name or name == "wpe"
            if not is_position or any(word in name for word in _NOT_ABSOLUTE):
                continue
            first = getattr(table, "offset", 0)
            if not first and table.padding_idx is not None:
                counts_real = hasattr(parent, "padding_idx")  # those of padding apart
                first = table.padding_idx + 1 if counts_real else 0
            yield table.num_embeddings - first
