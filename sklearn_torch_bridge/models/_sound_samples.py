"""Values of sound as the samples that a model takes: floats, its channels, its rate."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_torch_bridge._packages import import_optional

__all__ = [
    "as_floats",
    "as_values",
    "channels_first",
    "check_rate",
    "n_resampled",
    "to_samples",
]

_TWO_AXES = 2
_EXACT_BYTES = 2  # integers of as many are exact as float32
_MOST_CHANNELS = 32
_LARGEST_RATIO = 1000  # of two rates: beyond that a header is wrong
_OF_SOUND = {1, 2, 4}  # bytes of integers whose range is that of sound


def as_values(array: Any) -> NDArray[Any]:
    """Return the values of sound in memory: an array, a tensor or a list."""
    if isinstance(array, torch.Tensor):
        wide = array.detach().cpu()
        return (wide.float() if wide.dtype == torch.bfloat16 else wide).numpy()
    values = np.asarray(array)
    if values.dtype.kind in "iu" and values.dtype.itemsize not in _OF_SOUND:
        msg = (
            f"sound of {values.dtype} has no known range: give floats from -1 to 1, or "
            "integers of 8, 16 or 32 bits."
        )
        raise ValueError(msg)
    return values


def as_floats(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return values as float32, integers divided by their range.

    >>> as_floats(np.array([-128, 64], np.int8)), as_floats(np.array([0, 192], "u1"))
    (array([-1. ,  0.5], dtype=float32), array([-1. ,  0.5], dtype=float32))
    """
    scaled: Any = values
    if values.dtype.kind in "iu":
        half = 2 ** (8 * values.dtype.itemsize - 1)
        exact = np.float32 if values.dtype.itemsize <= _EXACT_BYTES else np.float64
        scaled = values.astype(exact)
        scaled -= half if values.dtype.kind == "u" else 0
        scaled /= half
    with np.errstate(over="ignore"):  # infinity is refused
        floats: NDArray[np.float32] = scaled.astype(np.float32)
    return floats


def check_rate(rate: Any) -> int:
    """Return a sampling rate as an int."""
    number = rate.item() if getattr(rate, "ndim", None) == 0 else rate
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not (is_number and number > 0 and float(number).is_integer()):
        msg = f"`sampling_rate` must be a whole number of Hz above 0, got {number!r}."
        raise ValueError(msg)
    return int(number)


def channels_first(values: NDArray[Any]) -> NDArray[Any]:
    """Return sound in memory as (n_channels, n_values), where its sizes show which.

    >>> channels_first(np.zeros(100)).shape, channels_first(np.zeros((100, 2))).shape
    ((1, 100), (2, 100))
    """
    if values.ndim == 1:
        return values[None]
    is_clear = values.ndim == _TWO_AXES and (
        min(values.shape) <= _MOST_CHANNELS < max(values.shape)
    )
    if not is_clear:
        raise _no_sound(values)
    return values if values.shape[0] < values.shape[1] else values.T


def to_samples(
    channels: NDArray[Any], rate: int, *, new_rate: int, n_channels: int = 1
) -> NDArray[np.float32]:
    """Return sound as a model takes it: (n_values,), or (n_channels, n_values).

    Several channels become one by their mean; one becomes several by repeating it.
    """
    if channels.dtype.kind not in "fiu" or not channels.size:
        raise _no_sound(channels if len(channels) > 1 else channels[0])
    floats = as_floats(channels)
    if not np.isfinite(floats).all():
        msg = "sound must be finite, got NaN or infinity."
        raise ValueError(msg)
    mixed = _mixed(floats, n_channels)
    found = np.stack([_resampled(one, rate, new_rate) for one in mixed])
    return found[0] if n_channels == 1 else found


def _no_sound(values: NDArray[Any]) -> ValueError:
    msg = (
        "sound must be an array (n_values,) of numbers, or with another axis of up to "
        f"{_MOST_CHANNELS} channels, got {values.dtype} of shape {values.shape}."
    )
    return ValueError(msg)


def _mixed(channels: NDArray[np.float32], n_channels: int) -> NDArray[np.float32]:
    if len(channels) == n_channels:
        return channels
    if n_channels == 1:
        mean: NDArray[np.float32] = channels.mean(axis=0, keepdims=True)
        return mean
    if len(channels) == 1:
        return np.repeat(channels, n_channels, axis=0)
    msg = (
        f"sound must have 1 or {n_channels} channels, as the model has, got "
        f"{len(channels)}: mix them first."
    )
    raise ValueError(msg)


def n_resampled(n_values: int, rate: int, new_rate: int) -> int:
    """Count the values of sound at another rate.

    >>> n_resampled(44_100, 44_100, 16_000), n_resampled(1, 44_100, 16_000)
    (16000, 1)
    """
    return -(-n_values * new_rate // rate)


def _resampled(
    values: NDArray[np.float32], rate: int, new_rate: int
) -> NDArray[np.float32]:
    """Bring one channel to another rate, as transformers and librosa do."""
    if rate == new_rate:
        return values
    if max(rate, new_rate) > _LARGEST_RATIO * min(rate, new_rate):
        msg = f"sound of {rate} Hz cannot be brought to {new_rate} Hz, of the model."
        raise ValueError(msg)
    purpose = f"bringing sound of {rate} Hz to {new_rate} Hz"
    soxr = import_optional("soxr", purpose=purpose)
    found = soxr.resample(values, rate, new_rate, quality="HQ")
    n_values = n_resampled(len(values), rate, new_rate)
    whole = np.zeros(n_values, np.float32)
    whole[: len(found)] = found[:n_values]
    return whole
