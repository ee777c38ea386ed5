"""Tokenizers of Hugging Face, known by what they have; one thread at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["is_tokenizer", "lent"]

_LOCKS: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def is_tokenizer(preprocess: Any) -> bool:
    """Return whether `preprocess` is a Hugging Face tokenizer."""
    names = "pad_token_id", "model_input_names", "model_max_length"
    return callable(preprocess) and all(hasattr(preprocess, name) for name in names)


@contextmanager
def lent(owner: Any) -> Iterator[None]:
    """Lend a tokenizer, or a model's, to one thread, and give it back as it was.

    Fast ones refuse two threads at once, and keep how a call has them cut and pad.
    """
    tokenizer = getattr(owner, "tokenizer", owner)
    fast: Any = getattr(tokenizer, "backend_tokenizer", None)
    with _lock_of(owner):
        cut, padded = getattr(fast, "truncation", None), getattr(fast, "padding", None)
        try:
            yield
        finally:
            if getattr(fast, "truncation", None) != cut:
                fast.enable_truncation(**cut) if cut else fast.no_truncation()
            if getattr(fast, "padding", None) != padded:
                fast.enable_padding(**padded) if padded else fast.no_padding()


def _lock_of(tokenizer: Any) -> threading.Lock:
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(tokenizer, threading.Lock())
