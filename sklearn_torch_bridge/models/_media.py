"""Images and sound, from files or from memory, as what a model takes."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._devices import float_dtype
from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge._types import Inputs

__all__ = ["ImageRows", "SoundRows"]

_TWO_AXES, _THREE_AXES = 2, 3
_CHANNELS = (1, 3, 4)
_OF_16_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_OF_ANY_RANGE = ("I", "F")
_STEPS_TO_8_BITS = 257  # 65535 becomes 255
_BACKGROUND = (255, 255, 255, 255)


class ImageRows:
    """Makes of images (paths, Pillow's, arrays of bytes) what a model takes.

    `prepare` gets upright images of Pillow in `mode`, as a list; it `pads` them where
    it does not bring all to one size. Grey values of 16 bits are scaled to 8,
    transparent images lie on white, and images of 32 bits (modes I and F), of which no
    range is known, are refused.
    """

    even = False

    def __init__(
        self,
        prepare: Callable[[list[Any]], Any],
        *,
        mode: str = "RGB",
        pads: bool = False,
    ) -> None:
        self.pads = pads
        self._prepare = prepare
        self._mode = mode

    def __call__(self, rows: Sequence[Any]) -> Any:
        """Open, turn upright and convert each image, and prepare them together."""
        return self._prepare([_open_image(row, self._mode) for row in rows])

    def takes(self, shape: tuple[int, ...], dtype: Any) -> bool:
        """Return whether an array is a picture, and not prepared already.

        It may be of a dtype that `__call__` refuses: channels are first in what is
        prepared, and then of floats or of long integers.
        """
        if len(shape) != _THREE_AXES:
            return len(shape) == _TWO_AXES
        if shape[0] not in _CHANNELS:
            return shape[-1] in _CHANNELS
        return str(dtype).rpartition(".")[2] in ("uint8", "uint16", "bool")

    def example(self) -> NDArray[np.uint8]:
        """Return a row, for the width of a result without rows."""
        return np.zeros((32, 32, 3), np.uint8)


def _open_image(row: Any, mode: str) -> Any:
    """Return a picture upright and in `mode`, as transformers' pipelines take it."""
    pillow = import_optional("PIL.Image", purpose="opening images")
    turn = import_optional("PIL.ImageOps", purpose="opening images").exif_transpose
    if isinstance(row, (str, os.PathLike)):
        with pillow.open(row) as image:
            return _in_mode(turn(image), mode)
    if isinstance(row, (np.ndarray, torch.Tensor)):
        return _in_mode(pillow.fromarray(_as_picture(row)), mode)
    if isinstance(row, pillow.Image):
        return _in_mode(turn(row), mode)
    msg = (
        "a row must be an image of Pillow, a path to one, or an array of uint8, got "
        f"{type(row).__name__}."
    )
    raise TypeError(msg)


def _in_mode(image: Any, mode: str) -> Any:
    """Convert an image to `mode`, where Pillow would cut values off or drop alpha."""
    pillow = import_optional("PIL.Image", purpose="opening images")
    if image.mode in _OF_ANY_RANGE:
        msg = (
            f"an image of mode {image.mode!r} must be scaled to 8 bits first, for "
            "nothing says which of its values are black and white. Make an array of "
            "uint8 of it, or an image of mode 'L'."
        )
        raise ValueError(msg)
    if image.mode in _OF_16_BITS:
        values = np.asarray(image).astype(np.uint32) + _STEPS_TO_8_BITS // 2
        scaled = pillow.fromarray((values // _STEPS_TO_8_BITS).astype(np.uint8))
        return scaled.convert(mode)
    is_transparent = image.mode.endswith(("A", "a")) or "transparency" in image.info
    if not is_transparent:
        return image.convert(mode)
    straight = image.convert("LA") if image.mode == "La" else image
    behind = pillow.new("RGBA", image.size, _BACKGROUND)
    return pillow.alpha_composite(behind, straight.convert("RGBA")).convert(mode)


def _as_picture(row: Any) -> NDArray[np.uint8]:
    """Put channels last, and leave out the axis of a single one."""
    array = row.detach().cpu().numpy() if isinstance(row, torch.Tensor) else row
    if array.dtype != np.uint8 or array.ndim not in (_TWO_AXES, _THREE_AXES):
        msg = (
            "an array must be a picture of uint8, (height, width, channels), got "
            f"{array.dtype} of shape {array.shape}. Scale its values to 0 to 255 and "
            "make uint8 of them; what is prepared already has its channels first."
        )
        raise TypeError(msg)
    if array.ndim == _THREE_AXES and array.shape[-1] not in _CHANNELS:
        array = array.transpose(1, 2, 0)
    is_grey = array.ndim == _THREE_AXES and array.shape[-1] == 1
    return array[..., 0] if is_grey else np.ascontiguousarray(array)


class SoundRows:
    """Makes of sound what a model takes, by a feature extractor of transformers.

    A row is an array (n_values,) at the rate of the model, a mapping with ``array``
    and ``sampling_rate``, or the path of a WAV file. Clips of different length share
    a batch only where the extractor brings all to one length: many of these models
    hear the silence that fills up the shorter ones.
    """

    pads = False

    def __init__(self, extractor: Any, module: nn.Module) -> None:
        self._extractor = extractor
        self._rate = int(extractor.sampling_rate)
        self._dtype = float_dtype(module)
        config = getattr(module, "config", None)
        self._n_positions = getattr(config, "max_source_positions", None)
        fixed = "nb_max_frames", "max_length"
        self.even = not any(hasattr(extractor, length) for length in fixed)

    def __call__(self, rows: Sequence[Any]) -> Inputs:
        """Check the rate of each clip, and extract features of all together."""
        clips = [self._clip(row) for row in rows]
        has_window = hasattr(self._extractor, "nb_max_frames") and self._n_positions
        asked: dict[str, Any] = {"return_attention_mask": True} if has_window else {}
        asked |= {"sampling_rate": self._rate, "return_tensors": "pt"}
        made = dict(self._extractor(clips, **asked))
        mask = made.pop("attention_mask", None) if has_window else None
        if mask is not None:  # of frames; each position is made of several
            mask = mask[:, :: mask.shape[1] // self._n_positions]
        kwargs = {
            name: value.to(self._dtype) if value.is_floating_point() else value
            for name, value in made.items()
        }
        return Inputs(kwargs=kwargs, mask=mask)

    def takes(self, shape: tuple[int, ...], dtype: Any) -> bool:
        """Return whether an array is a waveform, and no features."""
        return len(shape) == 1

    def example(self) -> NDArray[np.float32]:
        """Return a row, for the width of a result without rows."""
        return np.zeros(self._rate, np.float32)

    def lengths(self, rows: Sequence[Any]) -> NDArray[np.int64] | None:
        """Count values, for clips that must not be padded."""
        counts = map(self._n_values, rows)
        return np.fromiter(counts, np.int64) if self.even else None

    def _n_values(self, row: Any) -> int:
        try:
            return len(self._read(row, lazily=True)[0])
        except Exception:  # noqa: BLE001 - `__call__` will say of which row
            return 0

    def _clip(self, row: Any) -> NDArray[Any]:
        array, rate = self._read(row)
        if rate is not None and rate != self._rate:
            msg = (
                f"sound must have the sampling rate of the model, {self._rate} Hz, got "
                f"{rate} Hz: resample it first (scipy.signal.resample_poly)."
            )
            raise ValueError(msg)
        if array.ndim != 1 or array.dtype.kind not in "fiu" or not len(array):
            msg = (
                "sound must be an array (n_values,) of numbers, got "
                f"{array.dtype} of shape {array.shape}."
            )
            raise ValueError(msg)
        if not np.isfinite(array).all():
            msg = "sound must be finite, got NaN or infinity."
            raise ValueError(msg)
        return array

    def _read(
        self, row: Any, *, lazily: bool = False
    ) -> tuple[NDArray[Any], int | None]:
        """Return the values of a clip, and its rate where that is known."""
        if isinstance(row, (str, os.PathLike)):
            return _read_wav(Path(row), lazily=lazily)
        if isinstance(row, Mapping):
            if not {"array", "sampling_rate"} <= set(row):
                msg = (
                    "sound, where it is a mapping, must have 'array' and "
                    f"'sampling_rate', got {sorted(map(str, row))}."
                )
                raise ValueError(msg)
            return np.asarray(row["array"]), int(row["sampling_rate"])
        if isinstance(row, torch.Tensor):
            return row.detach().cpu().numpy(), None
        return np.asarray(row), None


def _read_wav(path: Path, *, lazily: bool) -> tuple[NDArray[Any], int]:
    """Read a WAV file as floats from -1 to 1, channels averaged; or only map it."""
    from scipy.io import wavfile  # slow: it brings MATLAB's formats and others

    try:
        rate, array = wavfile.read(path, mmap=lazily)
    except ValueError as error:
        msg = f"a path must name a WAV file, got {path.name!r}: {error}"
        raise ValueError(msg) from error
    if lazily:
        return array, int(rate)
    if array.dtype.kind == "u":  # 8 bits, around 128
        array = (array.astype(np.float32) - 128) / 128
    elif array.dtype.kind == "i":
        array = array.astype(np.float32) / -float(np.iinfo(array.dtype).min)
    return (array if array.ndim == 1 else array.mean(axis=1)), int(rate)
