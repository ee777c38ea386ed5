"""Files of sound, as people have them, and damaged ones."""

import io
import sys

import numpy as np
import pytest
from scipy.io import wavfile

from sklearn_torch_bridge.models._sound_files import read_head, read_sound

KINDS = {  # how far from what was written
    "FLAC": ("FLAC", "PCM_16", 1e-4),
    "FLAC 24": ("FLAC", "PCM_24", 1e-6),
    "OGG": ("OGG", "VORBIS", 0.1),
    "MP3": ("MP3", "MPEG_LAYER_III", 0.1),
    "WAV 8": ("WAV", "PCM_U8", 0.01),
    "WAV 16": ("WAV", "PCM_16", 1e-4),
    "WAV 24": ("WAV", "PCM_24", 1e-6),
    "WAV 32": ("WAV", "PCM_32", 1e-6),
    "WAV float": ("WAV", "FLOAT", 1e-6),
    "WAV double": ("WAV", "DOUBLE", 1e-6),
    "WAV extensible": ("WAVEX", "PCM_24", 1e-6),
    "WAV mu": ("WAV", "ULAW", 0.05),
    "AIFF": ("AIFF", "PCM_16", 1e-4),
}
N_VALUES, RATE = 16_000, 16_000


@pytest.fixture
def soundfile():
    return pytest.importorskip("soundfile")


def tones(n_channels):
    steps = np.arange(N_VALUES)[:, None] / RATE
    return 0.5 * np.sin(2 * np.pi * 300 * steps * (1 + np.arange(n_channels)))


@pytest.fixture
def written(soundfile):
    def written(kind, n_channels=1):
        file = io.BytesIO()
        form, subtype, _ = KINDS[kind]
        soundfile.write(file, tones(n_channels), RATE, format=form, subtype=subtype)
        return file.getvalue()

    return written


@pytest.mark.parametrize("n_channels", [1, 2, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read(written, tmp_path, kind, n_channels):
    if kind == "MP3" and n_channels > 2:
        pytest.skip("it has two channels at most")
    content = written(kind, n_channels)
    (tmp_path / "a.mp3").write_bytes(content)  # whatever its name says
    for source in (content, tmp_path / "a.mp3"):
        values, rate = read_sound(source)
        assert (values.shape, values.dtype, rate) == (
            (n_channels, N_VALUES),
            np.float32,
            RATE,
        )
        assert np.abs(values.T - tones(n_channels)).max() < KINDS[kind][2]
        assert read_head(source) == (N_VALUES, RATE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_off_is_refused(written, kind):
    content = written(kind)
    for cut in (0, 30, len(content) // 2, len(content) - 10):
        with pytest.raises(ValueError, match=r"cut off|must be|no values"):
            read_sound(content[:cut])


def test_numbers_of_wav_files_are_those_of_soundfile(soundfile, written):
    for kind in KINDS:
        if kind.startswith("WAV"):
            content = written(kind, 2)
            expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
            np.testing.assert_array_equal(read_sound(content)[0].T, expected)


@pytest.mark.usefixtures("soundfile")
@pytest.mark.parametrize("content", [b"no sound" * 500, bytes(5_000)])
def test_a_file_that_is_no_sound_is_refused(content):
    with pytest.raises(ValueError, match="must be WAV, FLAC, OGG, MP3 or another"):
        read_sound(content)


def test_a_file_without_values_is_refused(soundfile):
    file = io.BytesIO()
    soundfile.write(file, tones(1)[:0], RATE, format="OGG")
    with pytest.raises(ValueError, match="must have sound, got none"):
        read_sound(file.getvalue())


@pytest.fixture
def without_tag(soundfile, rng):
    def without_tag(mode, silent=slice(10_000, 20_000)):
        file = io.BytesIO()
        noise = rng.normal(size=30_000) * 0.1
        noise[silent] = 0  # for which few bits will do
        soundfile.write(
            file, noise, RATE, format="MP3", bitrate_mode=mode, compression_level=0.5
        )
        content = file.getvalue()
        return content[content.index(content[:2], 4) :]

    return without_tag


def test_an_mp3_file_that_does_not_say_how_long_it_is_stays_whole(written, without_tag):
    """libsndfile guesses its length from its first frame, and stops there."""
    at_first = slice(0, 10_000)  # so that the guess is too long
    for content in (without_tag("CONSTANT"), without_tag("VARIABLE", at_first)):
        assert read_sound(content)[0].shape[1] >= 30_000
    for content in (without_tag("VARIABLE"), written("MP3") * 2):
        with pytest.raises(ValueError, match=r"must say how long it is, but .* ffmpeg"):
            read_sound(content)


def test_an_mp3_file_that_ends_between_two_frames_is_refused(written):
    content = written("MP3")
    ends = [
        place for place in range(len(content)) if content[place:][:2] == b"\xff\xf3"
    ]
    for end in ends[len(ends) // 2 :]:
        with pytest.raises(ValueError, match="it was cut off"):
            read_sound(content[:end])


def test_without_soundfile_wav_is_read_and_all_else_names_the_extra(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "soundfile" else True
    )
    monkeypatch.setitem(sys.modules, "soundfile", None)
    wavfile.write(tmp_path / "a.wav", RATE, tones(2).astype("float32"))
    values, _ = read_sound(tmp_path / "a.wav")
    np.testing.assert_array_equal(values.T, tones(2).astype("float32"))
    for read in (read_sound, read_head):
        with pytest.raises(ImportError, match=r"'soundfile'.*torch-bridge\[sound\]'"):
            read(b"fLaC" + bytes(50))
