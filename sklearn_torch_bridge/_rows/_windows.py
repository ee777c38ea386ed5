"""Long rows cut into windows, of which a later one may begin within the one before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._results import Spans
from sklearn_torch_bridge._rows._base import Receiver
from sklearn_torch_bridge._types import Indices
from sklearn_torch_bridge.models import Maximum

__all__ = ["Encode", "TextWindows", "cut_windows", "n_common", "value_spans"]

Encode = Callable[[list[str]], Mapping[str, Any]]
"""Makes of some texts their ids, and what else there is for each token."""


def cut_windows(
    lengths: NDArray[np.int64], room: NDArray[np.int64], overlap: int
) -> tuple[Indices, NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of windows of each row, and where these start and stop.

    `room` is how much of its row a window has.

    >>> counts, starts, stops = cut_windows(np.array([3, 10]), np.array([4, 4]), 1)
    >>> counts.tolist(), starts.tolist(), stops.tolist()
    ([1, 3], [0, 0, 3, 6], [3, 4, 7, 10])
    """
    step = room - overlap
    counts = 1 + np.maximum(-(-(lengths - room) // step), 0)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = number * np.repeat(step, counts)
    stops = np.minimum(starts + np.repeat(room, counts), np.repeat(lengths, counts))
    return counts, starts, stops


def _check_overlap(overlap: int, room: int, size: int, unit: str) -> None:
    """Refuse an overlap that leaves nothing new to a window."""
    if overlap < room:
        return
    beside = f" that a window of {size} has beside its special ones and the prompt"
    msg = (
        f"`overlap` of `too_long` must be less than the {max(room, 0)} {unit}"
        f"{beside if room < size else ' of a window'}, got {overlap}."
    )
    raise ValueError(msg)


def ends_of(encode: Encode, rows: Sequence[Any]) -> tuple[int, int]:
    """Return how many special tokens stand before a text, and behind it.

    They are what a text without letters has: at both ends of all others as well.
    """
    around = _ids(encode, "") or []
    probes = [_ids(encode, text) for text in ("a", "0 b")]
    known = [*rows, *(row for row in probes if row)]
    n_before = min((n_common(around, row) for row in known), default=0)
    behind = around[n_before:][::-1]
    of_rows = (n_common(behind, row[::-1]) for row in known)
    return n_before, min(of_rows, default=0)


def _ids(encode: Encode, text: str) -> list[int] | None:
    """Encode one text; None if it cannot be."""
    try:
        return [int(one) for one in encode([text])["input_ids"][0]]
    except Exception:  # noqa: BLE001 - the rows themselves were encoded
        return None


def value_spans(
    lengths: NDArray[np.int64],
    size: int,
    overlap: int,
    scale: Fraction = Fraction(1),
) -> Spans:
    """Cut rows of so many values into windows."""
    _check_overlap(overlap, size, size, "values")
    room = np.full(len(lengths), size)
    counts, starts, stops = cut_windows(lengths, room, overlap)
    return Spans(counts, starts, stops, overlap=overlap, scale=scale)


@dataclass(frozen=True)
class TextWindows:
    """Windows as long as `maximum`, which share `overlap` tokens of their content.

    Each begins with the tokens of `prompt`, with which each text begins; the first
    `n_unpooled` tokens of a window do not enter its vector.
    """

    maximum: Maximum
    overlap: int = 0
    prompt: str = ""
    n_unpooled: int = 0

    @classmethod
    def asked_for(
        cls, receiver: Receiver, maximum: Maximum | None
    ) -> "TextWindows | None":
        """Return the windows that texts are read in; None if they are not, or no text.

        They are as long as the `maximum` that holds for texts.
        """
        if receiver.windows is None or maximum is None:
            return None
        return cls(maximum, receiver.windows.overlap, receiver.prompt_text)

    @property
    def size(self) -> int:
        """The most tokens of a window."""
        return self.maximum.n

    def of_texts(
        self,
        lengths: NDArray[np.int64],
        some: Sequence[NDArray[np.int32]],
        encode: Encode,
    ) -> Spans | None:
        """Cut texts of so many tokens; None where none is longer than a window.

        `some` of those that are longer show what stands around their content.
        """
        if not some and not self.overlap:
            return None
        before, behind = ends_of(encode, some)
        head = max(self._n_head(some, encode, before, behind), self.n_unpooled)
        _check_overlap(self.overlap, self.size - head - behind, self.size, "tokens")
        if not some:
            return None
        is_long = lengths > self.size
        heads, tails = np.where(is_long, head, 0), np.where(is_long, behind, 0)
        around = heads + tails
        room = np.full(len(lengths), self.size) - around
        counts, starts, stops = cut_windows(lengths - around, room, self.overlap)
        heads, tails = np.repeat(heads, counts), np.repeat(tails, counts)
        return Spans(
            counts,
            starts,
            stops,
            heads,
            tails,
            heads + stops - starts + tails - self.n_unpooled,
            self.overlap,
            "tokens",
        )

    def _n_head(
        self, some: Sequence[Any], encode: Encode, n_before: int, n_behind: int
    ) -> int:
        """Count the special tokens before a text, and those of the prompt.

        The last letters of a prompt may be in one token with the first of the text.
        """
        own = (_ids(encode, self.prompt) if self.prompt else None) or []
        own = own[: len(own) - n_behind]
        common = [n_common(own, row[: len(own)]) for row in some]
        return max(n_before, min(common, default=len(own)))


def n_common(one: Sequence[int], other: Any) -> int:
    """Count the leading numbers that two rows have in common.

    >>> n_common([1, 2, 3], [1, 2, 4, 5])
    2
    """
    pairs = enumerate(zip(one, other, strict=False))
    differ = (place for place, (left, right) in pairs if left != right)
    return next(differ, min(len(one), len(other)))
