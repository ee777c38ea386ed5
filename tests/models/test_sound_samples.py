"""Values of sound as samples: their scale, their channels, their rate."""

import sys

import numpy as np
import pytest
import torch

from sklearn_torch_bridge.models._sound_samples import (
    as_floats,
    as_values,
    channels_first,
    check_rate,
    n_resampled,
    to_samples,
)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u1", "u2", "u4"])
def test_integers_are_divided_by_their_range(dtype):
    info = np.iinfo(dtype)
    middle = 0 if info.min else info.max // 2 + 1
    floats = as_floats(np.array([info.min, middle, info.max], dtype))
    assert floats.dtype == np.float32
    assert floats[:2].tolist() == [-1, 0]
    assert 0.99 <= floats[2] <= 1


def test_tensors_and_lists_have_values():
    for array in (
        [0.5, 1.0],
        torch.tensor([0.5, 1]),
        torch.tensor([0.5, 1]).bfloat16(),
    ):
        assert as_floats(as_values(array)).tolist() == [0.5, 1]


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_integers_without_a_range_of_sound_are_refused(dtype):
    with pytest.raises(ValueError, match="has no known range: give floats"):
        as_values(np.zeros(5, dtype))


@pytest.mark.parametrize(
    "rate", [16_000, 16_000.0, np.int32(16_000), torch.tensor(16_000)]
)
def test_a_rate_is_a_whole_number(rate):
    assert check_rate(rate) == 16_000


@pytest.mark.parametrize(
    "rate", [0, -1, 0.5, float("nan"), float("inf"), None, "16000", True]
)
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(ValueError, match="must be a whole number of Hz above 0, got"):
        check_rate(rate)


@pytest.mark.parametrize(
    "shape", [(3, 4), (40, 40), (2, 2, 100), ()], ids=["small", "large", "axes", "none"]
)
def test_channels_that_cannot_be_told_from_time_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"\(n_values,\) of numbers, or .* 32 channels"
    ):
        channels_first(np.zeros(shape))


def test_values_too_large_for_floats_are_refused():
    with pytest.raises(ValueError, match="must be finite"):
        to_samples(np.array([[1e300]]), 100, new_rate=100)


def test_resampling_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "soxr" else True
    )
    monkeypatch.setitem(sys.modules, "soxr", None)
    words = r"bringing sound of 50 Hz to 100 Hz needs .*'soxr'.*bridge\[sound\]'"
    with pytest.raises(ImportError, match=words):
        to_samples(np.ones((1, 5)), 50, new_rate=100)


class TestResampling:
    @pytest.fixture(autouse=True)
    def soxr(self):
        pytest.importorskip("soxr")

    def tone(self, frequency, rate):
        steps = np.arange(2 * rate) / rate
        return np.sin(2 * np.pi * frequency * steps)[None].astype("float32")

    def level(self, samples):
        """Return the level of a tone in dB, of full scale, without the ends."""
        middle = samples[len(samples) // 4 : -len(samples) // 4].astype("float64")
        return 20 * np.log10(np.sqrt(2 * np.mean(middle**2)) + 1e-12)

    @pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
    def test_a_tone_that_both_rates_hold_stays(self, rate):
        samples = to_samples(self.tone(3_000, rate), rate, new_rate=16_000)
        expected = self.tone(3_000, 16_000)[0]
        np.testing.assert_allclose(samples[500:-500], expected[500:-500], atol=1e-5)

    @pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
    @pytest.mark.parametrize("frequency", [8_200, 10_000])
    def test_a_tone_above_half_the_new_rate_is_gone(self, rate, frequency):
        samples = to_samples(self.tone(frequency, rate), rate, new_rate=16_000)
        assert self.level(samples) < -100

    @pytest.mark.parametrize("rate", [44_100, 8_000, 44_101, 15_999])
    @pytest.mark.parametrize("n_values", [1, 2, 3, 1_000])
    def test_the_number_of_samples_is_known(self, rate, n_values):
        channels = np.ones((2, n_values))
        n_samples = len(to_samples(channels, rate, new_rate=16_000))
        assert n_samples == n_resampled(n_values, rate, 16_000)
        both = to_samples(channels, rate, new_rate=16_000, n_channels=2)
        assert both.shape == (2, n_samples)

    def test_equal_to_what_transformers_makes_of_a_file(self, tmp_path, rng):
        soundfile = pytest.importorskip("soundfile")
        load_audio = pytest.importorskip("transformers.audio_utils").load_audio
        values = rng.normal(size=(5_000, 2)) * 0.1
        soundfile.write(tmp_path / "a.wav", values, 44_100, subtype="FLOAT")
        expected = load_audio(str(tmp_path / "a.wav"), 16_000, backend="soundfile")
        samples = to_samples(values.T, 44_100, new_rate=16_000)
        np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)
