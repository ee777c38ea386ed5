"""Checks of options, which name the option that is wrong."""

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_torch_bridge._types import NUMERIC_KINDS

__all__ = [
    "SELECTOR_WORDS",
    "check_dtype_name",
    "check_options",
    "check_positive_int",
    "is_selector",
    "must_be",
    "one_of",
]

Check = Callable[[str, Any], object]

SELECTOR_WORDS = "a key, an attribute, an index, a tuple of these, or None"
"""What `output` must be."""


_PLAIN = frozenset((str, int, float, bool, NoneType))
_MOST_KNOWN = 1_000
_known: set[tuple[Any, ...]] = set()  # plain values that have passed


def check_options(estimator: BaseEstimator, checks: Mapping[str, Check]) -> None:
    """Check parameters of an estimator, each by its function ``(name, value)``."""
    values = [getattr(estimator, name) for name in checks]
    kinds = tuple(map(type, values))
    is_plain = _PLAIN.issuperset(kinds)
    own = (type(estimator), *kinds, *values) if is_plain else ()
    if is_plain and own in _known:  # as at each call but the first
        return
    for (name, check), value in zip(checks.items(), values, strict=True):
        check(name, value)
    if is_plain:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known.add(own)


def check_positive_int(name: str, value: Any) -> int:
    """Return `value` if it is a whole number from 1."""
    is_int = isinstance(value, (int, np.integer))
    if is_int and not isinstance(value, bool) and value > 0:
        return int(value)
    msg = f"`{name}` must be an int of at least 1, got {value!r}."
    raise (ValueError if is_int else TypeError)(msg)


def check_dtype_name(name: str, value: Any) -> np.dtype[Any] | None:
    """Return the NumPy dtype of numbers that `value` names; None stays."""
    try:
        dtype = None if value is None else np.dtype(value)
    except TypeError:
        dtype = np.dtype(object)
    if dtype is not None and dtype.kind not in NUMERIC_KINDS:
        msg = f"`{name}` must be a NumPy dtype of numbers or None, got {value!r}."
        raise ValueError(msg)
    return dtype


def is_selector(value: Any) -> bool:
    """Check what `output` is: a step, or a tuple of the steps to a nested field."""
    steps = value if isinstance(value, tuple) and value else (value,)
    are_steps = all(isinstance(one, (str, int)) for one in steps)
    return value is None or (are_steps and not any(isinstance(s, bool) for s in steps))


def must_be(
    words: str, is_right: Callable[[Any], object], error: type[Exception] = TypeError
) -> Check:
    """Make a check that says in `words` what a value must be."""

    def check(name: str, value: Any) -> None:
        if not is_right(value):
            msg = f"`{name}` must be {words}, got {value!r}."
            raise error(msg)

    return check


def one_of(*choices: Any) -> Check:
    """Make a check that the value is one of `choices`."""
    words = f"one of {', '.join(map(repr, choices))}"
    return must_be(words, choices.__contains__, ValueError)
