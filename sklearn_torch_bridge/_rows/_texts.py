"""Texts: checked, each run once, turned into token ids that are padded per batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._errors import ForwardError
from sklearn_torch_bridge._row_numbers import as_indices
from sklearn_torch_bridge._rows._base import (
    CheckedRows,
    Feed,
    FeedError,
    Kind,
    Receiver,
)
from sklearn_torch_bridge._rows._cut_texts import (
    encode_texts,
    prompted,
    shortest,
    whole,
)
from sklearn_torch_bridge._rows._entry_faults import is_missing
from sklearn_torch_bridge._rows._given_input import Given, as_entries, is_number
from sklearn_torch_bridge._rows._missing_or_nan import without_bad
from sklearn_torch_bridge._rows._preprocessed import RowFeed, cut_as_asked
from sklearn_torch_bridge._rows._windows import Encode, TextWindows
from sklearn_torch_bridge._rows._windows_of_features import (
    FeaturesOfIds,
    tokenizer_of_windows,
)
from sklearn_torch_bridge._tokenizers import is_tokenizer, lent
from sklearn_torch_bridge._types import Indices, Inputs, Rows
from sklearn_torch_bridge.models import (
    AcceptedInputs,
    FixedLength,
    Maximum,
    check_length,
    fixed_length,
    longest_text,
    text_part,
)

__all__ = ["TEXTS", "TokenFeed"]

_SOME = 8  # long texts, whose ends are compared


class _Texts(Kind):
    """One str a row."""

    name = "texts"
    has_tokens = True

    def recognises(self, given: Given) -> bool:
        if given.entries is None:
            return False
        first = given.first
        if isinstance(first, str):
            return True
        if is_tokenizer(given.preprocess):  # then a row that is none will be named
            return given.all_missing or (bool(given.entries) and not is_number(first))
        if given.preprocess is not None or not given.brings:
            return False
        return given.all_missing or _is_almost_text(first)

    def check(self, given: Given) -> CheckedRows:
        given.check_frame()
        entries = as_entries(given.X)
        bad = np.flatnonzero([not isinstance(text, str) for text in entries])
        some = without_bad(self, entries, bad, given, lambda: _not_texts(entries, bad))
        distinct, origin = _distinct([str(text) for text in some.values])
        if origin is None:
            origin = some.origin
        elif some.origin is not None:
            origin = np.where(some.origin < 0, -1, origin[some.origin])
        return replace(some, values=distinct, origin=origin)

    def feed(self, values: Any, receiver: Receiver) -> Feed:
        loaded, own = receiver.loaded, text_part(receiver.preprocess)
        preprocess = own or loaded.preprocess
        if preprocess is None:
            msg = (
                "`X` holds str, and `model` takes tensors: give a `preprocess`, such "
                "as the model's tokenizer, or a model that brings one "
                "('hf:NAME_OR_PATH')."
            )
            raise TypeError(msg)
        if is_tokenizer(preprocess):
            fixed = fixed_length(loaded.module, receiver.preprocess, preprocess)
            maximum = check_length(
                receiver.max_length,
                longest_text(loaded.module, preprocess, fixed),
                unit="tokens",
                least=shortest(preprocess, receiver.prompt_text),
            )
            return TokenFeed(
                values,
                preprocess,
                receiver.accepts,
                fixed,
                forgiving=receiver.forgiving,
                prompt=receiver.prompt_text,
                maximum=maximum,
                windows=TextWindows.asked_for(receiver, maximum),
            )
        if own is not None:
            return RowFeed(
                values,
                own,
                receiver.accepts.dtype,
                accepts=receiver.accepts,
                lengths=_n_characters(values),
                padded_by=own,
            )
        return _feed_as_brought(values, preprocess, receiver)


TEXTS = _Texts()


def _with_prompt(preprocess: Any, prompt: str) -> Any:
    """Return what a model brings for its texts, for those after a prompt."""
    if hasattr(preprocess, "with_prompt"):  # it may not pool the prompt's tokens
        return preprocess.with_prompt(prompt)
    return (lambda texts: preprocess(prompted(texts, prompt))) if prompt else preprocess


def _feed_as_brought(texts: Sequence[str], preprocess: Any, receiver: Receiver) -> Feed:
    """Return a feed of texts for a model that brings its own `preprocess`."""
    loaded, prompt = receiver.loaded, receiver.prompt_text
    made = _with_prompt(preprocess, prompt)
    made, maximum = cut_as_asked(made, receiver)
    windowed = _windows_of_features(texts, made, receiver, maximum)
    if windowed is not None:
        return windowed
    full = made.full_lengths(texts) if hasattr(made, "full_lengths") else None
    if full is not None:
        lengths = full if maximum is None else np.minimum(full, maximum.n)
    elif loaded.lengths is not None:
        lengths = _counted(loaded.lengths, prompted(texts, prompt))
    else:
        lengths = _n_characters(texts)
    feed = RowFeed(
        texts,
        made,
        receiver.accepts.dtype,
        accepts=receiver.accepts,
        lengths=lengths,
        # What a model brings is made anew for each call, and always does the same.
        padded_by="what the model brings",
    )
    if full is not None and maximum is not None:
        feed.full_lengths, feed.maximum = full, maximum
    return feed


def _windows_of_features(
    texts: Sequence[str], preprocess: Any, receiver: Receiver, maximum: Maximum | None
) -> Feed | None:
    """Return windows of texts for a model that brings its own `preprocess`.

    None where every text fits: then it takes them as they are.
    """
    tokenizer = tokenizer_of_windows(receiver)
    windows = TextWindows.asked_for(receiver, maximum)
    if windows is None or tokenizer is None:
        return None
    form = FeaturesOfIds.made_by(preprocess, texts)
    windows = replace(windows, n_unpooled=form.n_unpooled)
    feed = TokenFeed(
        *(texts, tokenizer, receiver.accepts),
        forgiving=receiver.forgiving,
        prompt=receiver.prompt_text,
        maximum=maximum,
        windows=windows,
        form=form,
    )
    return None if feed.spans is None else feed


def _n_characters(texts: Sequence[str]) -> NDArray[np.int64]:
    return np.array([len(text) for text in texts], np.int64)


def _counted(count: Callable[[Any], Any], texts: Sequence[str]) -> Any:
    """Count tokens, to sort by, or else letters: a poor order costs time alone.

    Of a text that no tokenizer takes, its batch will say so.
    """
    try:
        return count(texts)
    except Exception:  # noqa: BLE001 - raised again by the batch
        return _n_characters(texts)


def _is_almost_text(value: Any) -> bool:
    """Return whether users take a value for a text: bytes, and lists of words."""
    words = isinstance(value, (list, tuple)) and len(value) > 0
    return isinstance(value, bytes) or (words and isinstance(value[0], str))


def _not_texts(entries: Sequence[Any], bad: Indices) -> Exception:
    """Return the error for entries that are no str, which names the first of them."""
    row, value = bad[0], entries[bad[0]]
    missing = is_missing(value)
    msg = (
        f"`X` must hold str in every row, but row {row} is "
        f"{'missing: ' if missing else ''}{value!r}"
        f"{f' ({len(bad)} such rows)' if len(bad) > 1 else ''}."
    )
    if missing:
        return ValueError(msg + " Drop or fill missing texts first.")
    return TypeError(msg)


def _distinct(texts: Sequence[str]) -> tuple[list[str], Indices | None]:
    """Return each text once, and the place of each row's; None if all differ.

    >>> _distinct(["a", "b", "a"])
    (['a', 'b'], array([0, 1, 0]))
    """
    first: dict[str, int] = {}
    origin = np.array([first.setdefault(text, len(first)) for text in texts], np.intp)
    return list(first), None if len(first) == len(texts) else origin


class TokenFeed(Feed):
    """Distinct texts as the ids of a Hugging Face tokenizer, 4 bytes each.

    Batches are padded on the right, whatever the tokenizer says: there it changes
    neither positions nor, in a causal model, what a real token sees. For a model that
    takes no mask only texts of one length share a batch. Of a model that was trained on
    texts of one length each has that one, and is padded as its documented call does.
    """

    lengths_are_exact = True

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: Any,
        accepts: AcceptedInputs,
        fixed: FixedLength | None = None,
        *,
        forgiving: bool = False,
        prompt: str = "",
        maximum: Maximum | None = None,
        windows: TextWindows | None = None,
        form: FeaturesOfIds | None = None,
    ) -> None:
        self.maximum = maximum
        longest = None if maximum is None or windows is not None else maximum.n
        encoded = encode_texts(texts, tokenizer, longest, prompt)
        self._ids, lengths, full, self._refused = encoded
        self._n_tokens = lengths
        self._starts = np.cumsum(lengths) - lengths
        if not forgiving:
            self._refuse_empty(slice(0, len(texts)))
        if windows is None:
            self.full_lengths = full
        else:
            with lent(tokenizer):
                self._cut(windows, whole(tokenizer), form)
        self._shortest = _padded_length(fixed, maximum)
        self.lengths = np.maximum(self._n_tokens, self._shortest)
        self._padding = _padding(tokenizer)
        self._pads_left = bool(fixed) and tokenizer.padding_side == "left"
        self._form = form
        self._takes = _names_taken(accepts, tuple(self._ids), adds_mask=not fixed)
        if form is None:
            self.even = self._takes is None or "attention_mask" not in self._takes

    @property
    def padded_by(self) -> str:
        """The name of what pads: the feed itself."""
        return type(self).__name__

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, rows: Rows) -> Inputs:
        """Pad the ids of these texts to the longest of them."""
        lengths = self._n_tokens[rows]
        if not lengths.min():
            self._refuse_empty(rows)
        longest = max(lengths.max(), self._shortest)
        columns = np.arange(longest) - self._pads_left * (longest - lengths)[:, None]
        keep = (columns >= 0) & (columns < lengths[:, None])
        source = self._starts[rows][:, None] + columns
        if self.spans is not None:
            source += self.spans.shifts(rows, columns)
        source = source[keep]
        mask = torch.from_numpy(keep)
        given = {}
        for name, flat in self._ids.items():
            padded = np.full(keep.shape, self._padding.get(name, 0), np.int64)
            padded[keep] = flat[source]
            given[name] = torch.from_numpy(padded)
        if self._form is not None:
            return self._form({**given, "attention_mask": mask.long()})
        if self._takes is None:
            return Inputs(args=(given["input_ids"],), mask=mask)
        given["attention_mask"] = mask.long()
        return Inputs(kwargs={name: given[name] for name in self._takes}, mask=mask)

    def _cut(
        self, windows: TextWindows, encode: Encode, form: FeaturesOfIds | None
    ) -> None:
        """Have windows as rows, where some text is longer than one."""
        lengths, ids = self._n_tokens, self._ids["input_ids"]
        some = np.flatnonzero(lengths > windows.size)[:_SOME]
        rows = [ids[self._starts[row] :][: lengths[row]] for row in some]
        self.spans = windows.of_texts(lengths, rows, encode)
        if self.spans is not None:
            if form is not None:
                start = self._starts[form.row]
                form.check(self._ids, ids[start : start + lengths[form.row]].tolist())
            spans = self.spans
            self._starts = self._starts[spans.rows]
            self._n_tokens = spans.stops - spans.starts + spans.heads + spans.tails
            firsts = spans.firsts
            self._refused = {
                int(firsts[row]): why for row, why in self._refused.items()
            }

    def _refuse_empty(self, rows: Rows) -> None:
        empty = as_indices(rows)[self._n_tokens[rows] == 0]
        refused = [row for row in empty.tolist() if row in self._refused]
        if refused:
            reason, why = self._refused[refused[0]]
            raise FeedError(
                np.array(refused[:1]),
                lambda named: ForwardError(f"the tokenizer failed on {named}: {why}"),
            ) from reason
        if len(empty):
            msg = "`X` must hold texts of at least one token, got none in {}."
            raise FeedError(empty, lambda named: ValueError(msg.format(named)))


def _padded_length(fixed: FixedLength | None, maximum: Maximum | None) -> int:
    """Return the length to which all texts are padded; 0 if to that of the longest."""
    if fixed is None:
        return 0
    return fixed.n_tokens if maximum is None else min(fixed.n_tokens, maximum.n)


def _padding(tokenizer: Any) -> dict[str, int]:
    """Return the value that fills each key; without a padding token, any."""
    token = tokenizer.pad_token_id
    if token is None:
        token = getattr(tokenizer, "eos_token_id", None) or 0
    return {
        "input_ids": token,
        "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0),
        "special_tokens_mask": 1,
    }


def _names_taken(
    accepts: AcceptedInputs, names: tuple[str, ...], *, adds_mask: bool
) -> tuple[str, ...] | None:
    """Return the keys that the forward has a name for; None: ids by position."""
    if accepts.names is None and accepts.parameters:
        return names
    if accepts.names is None or "input_ids" not in accepts.names:
        return None
    with_mask = dict.fromkeys((*names, "attention_mask") if adds_mask else names)
    return tuple(name for name in with_mask if name in accepts.names)
