"""WAV files of plain numbers, as SciPy writes them, and damaged ones."""

import io

import numpy as np
import pytest
from scipy.io import wavfile

from sklearn_torch_bridge.models._wav_files import find_wav_values


def written(values, rate=100):
    file = io.BytesIO()
    wavfile.write(file, rate, values)
    return file.getvalue()


def read(content):
    file = io.BytesIO(content)
    found = find_wav_values(file)
    return found.read(file), found.rate


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("shape", [(7,), (7, 2), (7, 6)])
def test_what_was_written_is_read(dtype, shape, rng):
    values = (rng.normal(size=shape) * 50 + 100).astype(dtype)
    found, rate = read(written(values))
    np.testing.assert_array_equal(found, values.reshape(7, -1))
    assert (found.dtype, rate) == (values.dtype, 100)


def of_24_bits(order):
    values = np.array([-(2**23), 0, 2**23 - 1, 1], f"{order}i4")
    start = 0 if order == "<" else 1
    memory = values.view("u1").reshape(-1, 4)[:, start : start + 3].tobytes()
    word, half = (f"{order}{kind}" for kind in ("u4", "u2"))
    about = [np.array(1, half), np.array(1, half), np.array(100, word)]
    about += [np.array(300, word), np.array(3, half), np.array(24, half)]
    chunk = b"".join(one.tobytes() for one in about)
    size = np.array(len(memory), word).tobytes()
    name = b"RIFF" if order == "<" else b"RIFX"
    head = name + bytes(4) + b"WAVEfmt " + np.array(16, word).tobytes()
    return head + chunk + b"data" + size + memory, values


@pytest.mark.parametrize("order", ["<", ">"])
def test_three_bytes_are_the_upper_ones_of_four(order):
    content, values = of_24_bits(order)
    found, _ = read(content)
    assert found[:, 0].tolist() == (values.astype(np.int64) * 256).tolist()


def test_chunks_before_the_values_are_skipped():
    content = written(np.arange(5, dtype="i2"))
    odd = b"LIST" + (3).to_bytes(4, "little") + b"abc\0"
    found, _ = read(content[:12] + odd + content[12:])
    assert found[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_file_written_to_a_pipe_goes_to_its_end():
    content = bytearray(written(np.arange(5, dtype="i2")))
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff" * 4
    assert read(bytes(content))[0][:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("cut", "words"),
    [(-1, "9 of its 10 bytes"), (40, "no values"), (30, "no values")],
)
def test_a_file_that_was_cut_off_is_refused(cut, words):
    with pytest.raises(ValueError, match=words):
        read(written(np.arange(5, dtype="i2"))[:cut])


@pytest.mark.parametrize("place", [10, 12], ids=["channels", "rate"])
def test_a_file_without_rate_or_channels_is_refused(place):
    content = bytearray(written(np.arange(5, dtype="i2")))
    start = content.index(b"fmt ") + place
    content[start : start + (2 if place == 10 else 4)] = bytes(2 if place == 10 else 4)
    with pytest.raises(ValueError, match="must have channels and a rate, got"):
        read(bytes(content))


def test_what_is_no_plain_numbers_is_left_to_others():
    content = bytearray(written(np.arange(5, dtype="u1")))
    start = content.index(b"fmt ") + 8
    content[start] = 7  # of the law mu
    assert find_wav_values(io.BytesIO(bytes(content))).code is None
    assert find_wav_values(io.BytesIO(b"fLaC")) is None
    assert find_wav_values(io.BytesIO(b"")) is None
