"""Sound of any kind of file, rate and number of channels, through an extractor."""

import re
import warnings

import numpy as np
import pytest
from torch.utils.data import Dataset

from sklearn_torch_bridge import (
    BadRowWarning,
    EmbeddingCache,
    ForwardError,
    TorchFeatureExtractor,
    precompute,
)
from sklearn_torch_bridge.inspection import layer_table
from tests import families
from tests.families import CLOSE, RATE, folder_with

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")
pytestmark = pytest.mark.filterwarnings(
    # transformers asks the interpreter for its platform in a way that is deprecated.
    "ignore:.*is deprecated:FutureWarning"
)

FILES = [("flac", RATE, 1), ("ogg", 44_100, 2), ("mp3", 48_000, 2), ("wav", RATE, 6)]
LOW = r"^the sound of row 1 of `X` has a sampling rate of 8000 Hz, below the 16000 Hz"


def model_of(tmp_path_factory, name):
    config, _ = families.SOUND[name]
    folder = tmp_path_factory.mktemp(name)
    return folder_with(folder, config, families.sound_processor(name))[1]


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory):
    return model_of(tmp_path_factory, "wav2vec2")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return model_of(tmp_path_factory, "whisper")


@pytest.fixture
def paths(tmp_path, rng):
    def path(place, kind, rate, n_channels):
        name = tmp_path / f"{place}.{kind}"
        soundfile.write(name, rng.normal(size=(8_000, n_channels)) * 0.1, rate)
        return name

    return [path(place, *file) for place, file in enumerate(FILES)]


@pytest.fixture
def of_a_low_rate(paths, rng):
    soundfile.write(paths[1], rng.normal(size=4_000) * 0.1, 8_000)
    return paths[:2]


def in_memory(path):
    array, rate = soundfile.read(path, dtype="float32")
    return {"array": array, "sampling_rate": rate, "path": str(path)}


class Rows(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return self.rows[row], 0


DRESSES = {
    "str": lambda paths: [*map(str, paths)],
    "mappings": lambda paths: [*map(in_memory, paths)],
    "bytes": lambda paths: [
        {"bytes": path.read_bytes(), "path": path.name} for path in paths
    ],
    "named": lambda paths: [{"bytes": None, "path": str(path)} for path in paths],
    "Dataset": lambda paths: Rows([*map(in_memory, paths)]),
    "Dataset of files": lambda paths: Rows(DRESSES["named"](paths)),
}


def test_sound_in_every_dress(wav2vec2, paths):
    extractor = TorchFeatureExtractor(wav2vec2, batch_size=3)
    expected = extractor.transform(paths)
    assert len(np.unique(expected[:, 0])) == len(paths)
    for dress in DRESSES.values():
        np.testing.assert_array_equal(extractor.transform(dress(paths)), expected)
    mono = [in_memory(path) for path in paths]
    for row in mono:
        row["array"] = row["array"].reshape(len(row["array"]), -1).mean(axis=1)
    np.testing.assert_allclose(extractor.transform(mono), expected, **CLOSE)


def test_sound_for_a_model_that_hears_30_seconds(whisper, paths):
    extractor = TorchFeatureExtractor(whisper)
    expected = extractor.transform(paths)
    np.testing.assert_array_equal(
        extractor.transform(DRESSES["mappings"](paths)), expected
    )
    one_by_one = [extractor.transform([path])[0] for path in paths[1:3]]
    np.testing.assert_allclose(one_by_one, expected[1:3], **CLOSE)


@pytest.mark.parametrize("dress", ["named", "mappings", "Dataset"])
def test_one_warning_a_call_names_what_is_of_a_low_rate(
    wav2vec2, of_a_low_rate, dress, tmp_path
):
    X = DRESSES[dress](of_a_low_rate)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        TorchFeatureExtractor(wav2vec2, batch_size=1, num_workers=2).transform(X)
    said = [str(one.message) for one in caught if one.category is UserWarning]
    assert len(said) == 1
    assert re.match(LOW, said[0])
    assert caught[-1].filename == __file__
    with pytest.warns(UserWarning, match=LOW):
        TorchFeatureExtractor(wav2vec2).fit_transform(X)
    with pytest.warns(UserWarning, match=LOW):
        TorchFeatureExtractor(wav2vec2).transform_to_file(X, tmp_path / "z.npy")
    with pytest.warns(UserWarning, match=LOW):
        precompute(TorchFeatureExtractor(wav2vec2, cache=tmp_path / "e.db"), X)
    half_known = TorchFeatureExtractor(wav2vec2, cache=tmp_path / "half.db")
    TorchFeatureExtractor(wav2vec2).fit(X)  # which looks at the first alone
    half_known.fit(X)
    half_known.fit_transform(X[:1] if dress != "Dataset" else Rows(X.rows[:1]))
    with pytest.warns(UserWarning, match=LOW):
        half_known.transform(X)


def test_a_row_that_fails_is_not_called_of_a_low_rate(wav2vec2, of_a_low_rate):
    of_a_low_rate[1].write_bytes(of_a_low_rate[1].read_bytes()[:-40])
    extractor = TorchFeatureExtractor(wav2vec2, on_error="nan")
    with pytest.warns(BadRowWarning, match="^row 1 of"):
        Z = extractor.transform(of_a_low_rate)
    assert np.isnan(Z).all(axis=1).tolist() == [False, True]
    with pytest.raises(ForwardError, match=r"row 1: ValueError: the file '.*1\.ogg'"):
        TorchFeatureExtractor(wav2vec2).transform(of_a_low_rate)


def test_a_cache_tells_rows_by_content_and_rate(wav2vec2, paths, tmp_path):
    store = EmbeddingCache(tmp_path / "e.db")
    extractor = TorchFeatureExtractor(wav2vec2, cache=store)
    named = DRESSES["named"](paths)
    Z = extractor.transform(named)
    for same in (paths, Rows(named)):
        np.testing.assert_array_equal(extractor.transform(same), Z)
    assert store.stats()["rows"] == len(paths)  # a name is none of it
    soundfile.write(paths[0], in_memory(paths[1])["array"], 44_100)
    changed = extractor.transform(named)
    assert not np.array_equal(changed[0], Z[0])
    soundfile.write(paths[0], in_memory(paths[3])["array"][:, 0], RATE)
    again = extractor.transform(Rows(named))
    assert not np.array_equal(again[0], changed[0])
    np.testing.assert_array_equal(again[1:], Z[1:])
    array = in_memory(paths[3])["array"][:, 0]
    rates = [{"array": array, "sampling_rate": rate} for rate in (RATE, 32_000)]
    n_before = store.stats()["rows"]
    assert len(np.unique(extractor.transform(rates)[:, 0])) == 2
    assert store.stats()["rows"] == n_before + 2


def test_a_table_of_layers_is_made_of_files(wav2vec2, paths):
    table = layer_table(TorchFeatureExtractor(wav2vec2), paths)
    assert "(n, " in str(table)
