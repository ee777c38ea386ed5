"""Files of sound as floats: WAV by itself, all others by soundfile."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.models._sound_samples import as_floats
from sklearn_torch_bridge.models._wav_files import find_wav_values
from sklearn_torch_bridge.models._whole_files import check_whole, count_mp3_values

__all__ = ["Head", "Source", "read_head", "read_sound"]

Source: TypeAlias = Path | bytes
"""A file, or what is in one."""

_BLOCK = 1 << 20  # values at once: what a header says of the length may be wrong


class Head(NamedTuple):
    """What a file says of itself: how many values each channel has, and their rate."""

    n_values: int
    rate: int


def read_head(source: Source) -> Head:
    """Read how long a sound is, without its values."""
    with _opened(source) as file:
        if (wav := find_wav_values(file)) is not None and wav.code:
            return Head(wav.n_values, wav.rate)
    with _decoder(source) as decoder:
        return Head(int(decoder.frames), int(decoder.samplerate))


def read_sound(source: Source) -> tuple[NDArray[np.float32], int]:
    """Return the values of a file, (n_channels, n_values), and their rate in Hz.

    Of integers full scale becomes 1. A file that was cut off is an error.
    """
    with _opened(source) as file:
        if (wav := find_wav_values(file)) is not None and wav.code:
            values, rate = as_floats(wav.read(file)), wav.rate
        else:
            file.seek(0)
            values, rate = _decoded(source, file.read())
    if not len(values):
        msg = "it must have sound, got none."
        raise ValueError(msg)
    return values.T, rate


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        yield file


@contextmanager
def _decoder(source: Source) -> Iterator[Any]:
    """Open a file of any kind; an error of the decoder becomes a `ValueError`."""
    purpose = "opening sound other than WAV files of plain numbers"
    soundfile = import_optional("soundfile", purpose=purpose)
    given = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        with soundfile.SoundFile(given) as decoder:
            yield decoder
    except (RuntimeError, TypeError) as error:  # a TypeError for a name as "a.raw"
        said = getattr(error, "error_string", None) or str(error)
        msg = f"it must be WAV, FLAC, OGG, MP3 or another file of sound: {said}"
        raise ValueError(msg) from error


def _decoded(source: Source, content: bytes) -> tuple[NDArray[np.float32], int]:
    """Return what soundfile reads of a file, if that is all there is."""
    check_whole(content)
    blocks = [np.empty((0, 1), np.float32)]
    with _decoder(source) as decoder:
        while len(block := decoder.read(_BLOCK, dtype="float32", always_2d=True)):
            blocks.append(block)
        values = np.concatenate(blocks[1:] or blocks)
        _check_length(decoder, len(values), content)
        return values, int(decoder.samplerate)


def _check_length(decoder: Any, n_values: int, content: bytes) -> None:
    """Refuse values that are fewer than those of the file."""
    mp3 = count_mp3_values(content) if decoder.format == "MP3" else None
    is_guess = mp3 is not None and not mp3.has_tag
    if n_values < decoder.frames and not is_guess:
        msg = f"it was cut off: {n_values} of its {decoder.frames} values are there."
        raise ValueError(msg)
    if mp3 is not None and n_values < mp3.at_least:
        msg = (
            f"it must say how long it is, but {n_values} of its {mp3.at_least} values "
            "or more would be read. Write its header anew: ffmpeg -i old.mp3 -c copy "
            "new.mp3"
        )
        raise ValueError(msg)
