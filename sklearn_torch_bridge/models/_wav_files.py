"""WAV files of plain numbers, read without any package for sound."""

import os
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["WavValues", "find_wav_values"]

_ORDERS = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">"}
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_DTYPES = {
    _PCM: {1: "u1", 2: "i2", 3: "i3", 4: "i4", 8: "i8"},
    _FLOAT: {4: "f4", 8: "f8"},
}
_IN_DS64 = 0xFFFFFFFF
_WRITTEN_TO_A_PIPE = {0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000}  # by FFmpeg, SoX and others
_HEAD_BYTES, _FORMAT_BYTES = 12, 16


class WavValues(NamedTuple):
    """Where the values of a file lie, and what they are; `code` None: not numbers."""

    code: str | None
    n_channels: int
    rate: int
    n_values: int
    offset: int

    def read(self, file: BinaryIO) -> NDArray[Any]:
        """Return the values, (n_values, n_channels), as the file has them."""
        assert self.code is not None  # noqa: S101 - asked of files of numbers
        file.seek(self.offset)
        width, n_all = int(self.code[-1]), self.n_values * self.n_channels
        memory = file.read(n_all * width)
        if "i3" not in self.code:
            values = np.frombuffer(memory, self.code)
        else:  # three bytes become the upper ones of four
            wide = np.zeros((n_all, 4), np.uint8)
            is_little = self.code[0] == "<"
            start = 1 if is_little else 0
            wide[:, start : start + 3] = np.frombuffer(memory, np.uint8).reshape(-1, 3)
            values = wide.reshape(-1).view(f"{self.code[0]}i4")
        return values.reshape(-1, self.n_channels)


def find_wav_values(file: BinaryIO) -> WavValues | None:
    """Find the values of a WAV file; None if it is of another kind."""
    head = file.read(_HEAD_BYTES)
    order = _ORDERS.get(head[:4])
    if order is None or head[8:] != b"WAVE":
        return None
    about, n_long = b"", _IN_DS64
    while True:
        chunk = file.read(8)
        if len(chunk) < 8:  # noqa: PLR2004 - a name and a size
            msg = "it has no values, or was cut off before them."
            raise ValueError(msg)
        size: int = struct.unpack(f"{order}4xI", chunk)[0]
        if chunk[:4] == b"data":
            break
        body = file.read(size + size % 2)
        if chunk[:4] == b"fmt ":
            about = body
        elif chunk[:4] == b"ds64":
            n_long = int.from_bytes(body[8:16], "little")
    if size == _IN_DS64 and head[:4] == b"RF64":
        size = n_long
    offset = file.tell()
    n_bytes = file.seek(0, os.SEEK_END) - offset
    if size > n_bytes and size not in _WRITTEN_TO_A_PIPE:
        msg = f"it was cut off: {n_bytes} of its {size} bytes of sound are there."
        raise ValueError(msg)
    return _values(about, order, min(size, n_bytes), offset)


def _values(about: bytes, order: str, n_bytes: int, offset: int) -> WavValues:
    """Return what the chunk `about` the format says of the values."""
    if len(about) < _FORMAT_BYTES:
        msg = "it does not say what its values are."
        raise ValueError(msg)
    tag, n_channels, rate, frame = struct.unpack(f"{order}HHI4xH2x", about[:16])
    if tag == _EXTENSIBLE and len(about) >= 26:  # noqa: PLR2004 - the real one is there
        tag = struct.unpack(f"{order}H", about[24:26])[0]
    if not (n_channels and rate and frame):
        msg = f"it must have channels and a rate, got {n_channels} and {rate} Hz."
        raise ValueError(msg)
    width, rest = divmod(frame, n_channels)
    code = None if rest else _DTYPES.get(tag, {}).get(width)
    ordered = code and f"{order}{code}"
    return WavValues(ordered, n_channels, rate, n_bytes // frame, offset)
