"""Whether files of sound are whole: of others decoders return what is left."""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["check_whole", "count_mp3_values"]

_PAGE_BYTES = 27 + 255 + 255 * 255  # of OGG, at most
_END_OF_STREAM = 4
_BIT_RATES = {  # kbit/s of layer III, by whether it is MPEG 1
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_LAYER_3 = 1
_TAGS = (b"Xing", b"Info")


def check_whole(content: bytes) -> None:
    """Refuse a file that ends before its sound does, as far as its kind shows that."""
    if not content:
        msg = "it must be a file of sound, got an empty one."
        raise ValueError(msg)
    for magic, has_end in _ENDS.items():
        if content.startswith(magic) and not has_end(content):
            msg = "it was cut off: it ends before its sound does."
            raise ValueError(msg)


def _ogg_has_end(content: bytes) -> bool:
    tail = content[-_PAGE_BYTES:]
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & _END_OF_STREAM:  # noqa: PLR2004 - of its head
        return False
    n_segments = page[26]
    return 27 + n_segments + sum(page[27 : 27 + n_segments]) <= len(page)


def _aiff_has_end(content: bytes) -> bool:
    return int.from_bytes(content[4:8], "big") + 8 <= len(content) + 1  # of padding


def _au_has_end(content: bytes) -> bool:
    start = int.from_bytes(content[4:8], "big")
    size = int.from_bytes(content[8:12], "big")
    return size == 0xFFFFFFFF or start + size <= len(content)  # noqa: PLR2004 - unknown


def _w64_has_end(content: bytes) -> bool:
    return int.from_bytes(content[16:24], "little") <= len(content) + 7  # of padding


def _caf_has_end(content: bytes) -> bool:
    place = 8
    while place + 12 <= len(content):
        size: int = struct.unpack(">4xq", content[place : place + 12])[0]
        if size < 0:  # up to the end
            return True
        place += 12 + size
    return place == len(content)


_ENDS: dict[bytes, Callable[[bytes], bool]] = {
    b"OggS": _ogg_has_end,
    b"FORM": _aiff_has_end,
    b".snd": _au_has_end,
    b"riff": _w64_has_end,
    b"caff": _caf_has_end,
}


class Mp3Values(NamedTuple):
    """How many values the frames of an MP3 file have at least, and if a tag says so."""

    at_least: int
    has_tag: bool


def count_mp3_values(content: bytes) -> Mp3Values:
    """Count the values in the frames of an MP3 file, of which the last must be whole.

    An encoder adds up to two times 4,095 values, of which the tag of the first frame
    says that they are none; without one, a decoder guesses the length.
    """
    start = _behind_id3(content)
    frames = list(_iter_frames(content, start))
    if not frames:
        return Mp3Values(0, has_tag=False)
    first = content[start : start + frames[0][0]]
    has_tag = any(tag in first for tag in _TAGS)
    added = 8190 + frames[0][1] if has_tag else 0
    n_values = sum(values for _, values in frames)
    return Mp3Values(max(0, n_values - added), has_tag)


def _behind_id3(content: bytes) -> int:
    if content[:3] != b"ID3":
        return 0
    shifts = 21, 14, 7, 0  # seven bits in a byte
    size = sum(part << by for part, by in zip(content[6:10], shifts, strict=False))
    return 10 + size


def _iter_frames(content: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield the bytes and the values of each frame, up to what is none."""
    place = start
    while frame := _frame(content[place : place + 4]):
        place += frame[0]
        if place > len(content):
            msg = "it was cut off: its last frame is not whole."
            raise ValueError(msg)
        yield frame


def _frame(head: bytes) -> tuple[int, int] | None:
    """Return the bytes and the values of a frame of layer III; None if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:  # noqa: PLR2004
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version not in _RATES or layer != _LAYER_3 or bits in (0, 15) or rate == 3:  # noqa: PLR2004
        return None
    values = 1152 if version == 3 else 576  # noqa: PLR2004
    speed = 1000 * _BIT_RATES[version == 3][bits]  # noqa: PLR2004
    size = values // 8 * speed // _RATES[version][rate] + (head[2] >> 1 & 1)
    return size, values
