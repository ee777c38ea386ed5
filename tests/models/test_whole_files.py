"""Files of sound that end before their sound does."""

import io

import pytest

from sklearn_torch_bridge.models._whole_files import check_whole, count_mp3_values

soundfile = pytest.importorskip("soundfile")


@pytest.fixture
def written(rng):
    def written(kind, subtype=None, n_values=20_000, rate=16_000):
        file = io.BytesIO()
        values = rng.normal(size=n_values) * 0.1
        soundfile.write(file, values, rate, format=kind, subtype=subtype)
        return file.getvalue()

    return written


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("OGG", "VORBIS"), ("OGG", "OPUS")]
    + [(kind, "PCM_16") for kind in ("AIFF", "AU", "W64", "CAF")],
)
def test_a_file_that_was_cut_off_is_refused(written, kind, subtype):
    """libsndfile reads what is left of these, or nothing, without a word."""
    content = written(kind, subtype)
    check_whole(content)
    for cut in (len(content) // 2, len(content) - 10, 40):
        with pytest.raises(ValueError, match="it was cut off"):
            check_whole(content[:cut])


def test_an_empty_file_is_refused():
    with pytest.raises(ValueError, match="got an empty one"):
        check_whole(b"")


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\0\2\1" + bytes(257)])
def test_the_values_of_an_mp3_file_are_counted(written, rate, tag):
    content = tag + written("MP3", n_values=40_000, rate=rate)
    counted = count_mp3_values(content)
    assert counted.has_tag
    assert 40_000 - 8_190 <= counted.at_least <= 40_000
    with pytest.raises(ValueError, match="its last frame is not whole"):
        count_mp3_values(content[:-10])


def test_what_is_no_mp3_file_has_no_values():
    assert count_mp3_values(b"\xff\xfb\xf0\0" + bytes(99)).at_least == 0
    assert count_mp3_values(b"").at_least == 0
