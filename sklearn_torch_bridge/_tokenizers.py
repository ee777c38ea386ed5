"""Tokenizers of Hugging Face, known by what they have; one thread at a time."""

import threading
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["is_tokenizer", "lock_of"]

_LOCKS: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def is_tokenizer(preprocess: Any) -> bool:
    """Return whether `preprocess` is a Hugging Face tokenizer."""
    names = "pad_token_id", "model_input_names", "model_max_length"
    return callable(preprocess) and all(hasattr(preprocess, name) for name in names)


def lock_of(tokenizer: Any) -> threading.Lock:
    """Return the lock of a tokenizer: fast ones refuse two threads at once."""
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(tokenizer, threading.Lock())
