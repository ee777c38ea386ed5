"""Images and sound, from files or from memory, as what a model takes."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._devices import float_dtype
from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge._types import Inputs, UnevenBatchError
from sklearn_torch_bridge.models._longest_row import Maximum, Unit, longest_sound
from sklearn_torch_bridge.models._sound_files import Source, read_head, read_sound
from sklearn_torch_bridge.models._sound_samples import (
    as_values,
    channels_first,
    check_rate,
    n_resampled,
    to_samples,
)

__all__ = ["Clip", "ImageRows", "SoundRows"]

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


class Clip(NamedTuple):
    """One row of sound as the model takes it, and the rate that it came with."""

    samples: NDArray[np.float32]
    rate: int


class SoundRows:
    """Makes of sound what a model takes, by a feature extractor of transformers.

    A row is an array (n_values,) at the rate of the model; a mapping with ``array``,
    which may have an axis of channels, and ``sampling_rate``; or a file: its path, or a
    mapping with ``bytes`` and ``path``. Integers are divided by their range, several
    channels averaged where the model takes one, and sound of another rate is resampled
    (soxr's HQ, as in transformers' `load_audio`). Clips of different length share a
    batch only where the extractor brings all to one length: many of these models hear
    the silence that fills up the shorter ones.
    """

    pads = False
    unit: Unit = "values"
    least = 1

    def __init__(self, extractor: Any, module: nn.Module) -> None:
        self.rate = int(extractor.sampling_rate)
        self._longest: int | None = None
        self._extractor = extractor
        self._n_channels = _n_channels(extractor)
        self._dtype = float_dtype(module)
        config = getattr(module, "config", None)
        self._n_positions = getattr(config, "max_source_positions", None)
        fixed = "nb_max_frames", "max_length"
        self.even = not any(hasattr(extractor, length) for length in fixed)

    def __call__(self, rows: Sequence[Any]) -> Inputs:
        """Return what the model takes of these rows."""
        return self.features(self.clips(rows))

    def clips(self, rows: Sequence[Any]) -> list[Clip]:
        """Return the samples of each row, as float32 at the rate of the model."""
        clips = [self._clip(row) for row in rows]
        if self._longest is None:
            return clips
        return [Clip(clip.samples[..., : self._longest], clip.rate) for clip in clips]

    def features(self, clips: Sequence[Clip]) -> Inputs:
        """Extract features of all clips together."""
        samples = [clip.samples for clip in clips]
        sizes = [one.shape[-1] for one in samples]
        if self.even and len(set(sizes)) > 1:  # the head of a file was wrong
            raise UnevenBatchError.grouped(sizes)
        has_window = hasattr(self._extractor, "nb_max_frames") and self._n_positions
        asked: dict[str, Any] = {"return_attention_mask": True} if has_window else {}
        asked |= {"sampling_rate": self.rate, "return_tensors": "pt"}
        made = dict(self._extractor(samples, **asked))
        mask = made.pop("attention_mask", None) if has_window else None
        if mask is not None:  # of frames; each position is made of several
            mask = mask[:, :: mask.shape[1] // self._n_positions]
        kwargs = {
            name: value.to(self._dtype) if value.is_floating_point() else value
            for name, value in made.items()
        }
        return Inputs(kwargs=kwargs, mask=mask)

    @property
    def maximum(self) -> Maximum | None:
        """How many values of a clip the extractor takes; None where it takes all."""
        return longest_sound(self._extractor)

    @property
    def positions_per_value(self) -> Fraction:
        """How many positions a model has for a value that its mask is for."""
        n_values = getattr(self._extractor, "n_samples", None)
        if not (n_values and self._n_positions):
            return Fraction(1)
        return Fraction(int(self._n_positions), int(n_values))

    def takes(self, shape: tuple[int, ...], dtype: Any) -> bool:
        """Return whether an array is a waveform, and no features."""
        return len(shape) == 1

    def takes_mapping(self, row: Mapping[Any, Any]) -> bool:
        """Return whether a mapping is sound, and no keyword arguments of a model."""
        return any(keys <= row.keys() for keys in (_IN_MEMORY, _IN_FILE))

    def example(self) -> NDArray[np.float32]:
        """Return a row, for the width of a result without rows."""
        return np.zeros(self.rate, np.float32)

    def lengths(self, rows: Sequence[Any]) -> NDArray[np.int64] | None:
        """Count samples at the rate of the model, for clips that must not be padded."""
        if not self.even:
            return None
        counts = self.n_samples(rows)
        return counts if self._longest is None else np.minimum(counts, self._longest)

    def full_lengths(self, rows: Sequence[Any]) -> NDArray[np.int64]:
        """Count the samples of each row before it is cut; 0 where it cannot be read."""
        return self.n_samples(rows)

    def cut_at(self, maximum: Maximum) -> "SoundRows":
        """Return what cuts clips there, and leaves that to the extractor if it would.

        Some take another part than the first.
        """
        own = copy.copy(self)
        is_own = maximum.whose == "extractor"
        own._longest = None if is_own else maximum.n  # noqa: SLF001 - a copy of ours
        return own

    def n_samples(self, rows: Sequence[Any]) -> NDArray[np.int64]:
        """Count the samples of each row at the rate of the model, from heads of files.

        A row that cannot be read has none: `clips` will say why.
        """
        return np.fromiter(map(self._n_samples, rows), np.int64)

    def _n_samples(self, row: Any) -> int:
        try:
            if (file := _file_of(row)) is not None:
                head = read_head(file.source)
                return n_resampled(head.n_values, head.rate, self.rate)
            values, rate = self._in_memory(row)
            return n_resampled(channels_first(values).shape[1], rate, self.rate)
        except Exception:  # noqa: BLE001 - `clips` will say of which row
            return 0

    def _clip(self, row: Any) -> Clip:
        if (file := _file_of(row)) is None:
            values, rate = self._in_memory(row)
            return self._at_own_rate(channels_first(values), rate)
        try:
            return self._at_own_rate(*read_sound(file.source))
        except (ImportError, ValueError) as error:
            kind = ImportError if isinstance(error, ImportError) else ValueError
            msg = f"the file {file.name!r} cannot be used: {error}"
            raise kind(msg) from error

    def _at_own_rate(self, channels: NDArray[Any], rate: int) -> Clip:
        own = {"new_rate": self.rate, "n_channels": self._n_channels}
        return Clip(to_samples(channels, rate, **own), rate)

    def _in_memory(self, row: Any) -> tuple[NDArray[Any], int]:
        """Return the values of a row that is no file, and their rate."""
        if isinstance(row, Mapping):
            if not row.keys() >= _IN_MEMORY:
                msg = (
                    "sound, where it is a mapping, must have 'array' and "
                    f"'sampling_rate', got {sorted(map(str, row))}; or, as a file, "
                    "'bytes' and 'path'."
                )
                raise ValueError(msg)
            return as_values(row["array"]), check_rate(row["sampling_rate"])
        if not (hasattr(row, "__array__") or isinstance(row, (list, tuple))):
            msg = (
                "sound must be an array, a mapping with 'array' and 'sampling_rate', "
                "a path, or a mapping with 'bytes' and 'path', got "
                f"{type(row).__name__}."
            )
            raise TypeError(msg)
        values = as_values(row)
        if values.ndim != 1:
            msg = (
                "sound must be an array (n_values,) of numbers, got "
                f"{values.dtype} of shape {values.shape}. Give several channels as a "
                "mapping with 'array' and 'sampling_rate'."
            )
            raise ValueError(msg)
        return values, self.rate


_IN_MEMORY, _IN_FILE = {"array", "sampling_rate"}, {"bytes", "path"}
_MOST_CHANNELS = 8  # of what an extractor calls its features: bands are more


def _n_channels(extractor: Any) -> int:
    """Return how many channels a feature extractor takes, as that of EnCodec two."""
    n_features = getattr(extractor, "feature_size", None) or 1
    if not 1 < n_features <= _MOST_CHANNELS:
        return 1
    one = np.zeros(int(extractor.sampling_rate), np.float32)
    try:
        extractor([one], sampling_rate=extractor.sampling_rate)
    except ValueError:
        return int(n_features)
    return 1


class _File(NamedTuple):
    """A file, or what is in one, and its name."""

    source: Source
    name: str


def _file_of(row: Any) -> _File | None:
    """Return the file that a row is; None of another row."""
    if isinstance(row, (str, os.PathLike)):
        return _File(Path(row), os.fspath(row))
    if not isinstance(row, Mapping) or not row.keys() >= _IN_FILE:
        return None
    if row.keys() >= _IN_MEMORY:  # decoded already
        return None
    content, path = row["bytes"], row["path"]
    if content is None and isinstance(path, (str, os.PathLike)):
        return _File(Path(path), os.fspath(path))
    if not isinstance(content, (bytes, bytearray, memoryview)):
        msg = (
            "sound with 'bytes' and 'path' must have the bytes or the path of a file, "
            f"got {type(content).__name__} and {type(path).__name__}."
        )
        raise TypeError(msg)
    return _File(bytes(content), str(path or "bytes"))
