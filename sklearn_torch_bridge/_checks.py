"""TODO _checks."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
)

__all__ = ["Check", "check_dtype_name", "check_options", "check_positive_int", "one_of"]


Check = Callable[[str, Any], object]


_KINDS = "biufc"


def check_options(estimator: BaseEstimator, checks: Mapping[str, Check]) -> None:
    """Check parameters of an estimator, each by its function ``(name, value)``."""
    for name, check in checks.items():
        check(name, getattr(estimator, name))


def check_positive_int(name: str, value: Any) -> int:
    """Return `value` if it is a whole number from 1."""
    if (
        isinstance(value, (int, np.integer))
        and not isinstance(value, bool)
        and value > 0
    ):
        return int(value)
    msg = f"`{name}` must be an int of at least 1, got {value!r}."
    raise (ValueError if isinstance(value, (int, np.integer)) else TypeError)(msg)


def check_dtype_name(name: str, value: Any) -> np.dtype[Any] | None:
    """Return the NumPy dtype of numbers that `value` names; None stays."""
    if value is None:
        return None
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except TypeError as error:
        msg = f"`{name}` must be a NumPy dtype of numbers or None, got {value!r}."
        raise ValueError(msg) from error
    if dtype.kind not in _KINDS:
        msg = f"`{name}` must be a NumPy dtype of numbers or None, got {value!r}."
        raise ValueError(msg)
    return dtype


def one_of(*choices: Any) -> Check:
    """Make a check that the value is one of `choices`."""

    def check(name: str, value: Any) -> None:
        if not any(value is choice or value == choice for choice in choices):
            known = ", ".join(map(repr, choices))
            msg = f"`{name}` must be one of {known}, got {value!r}."
            raise ValueError(msg)

    return check
