"""Of a path given to the caller's own code, its place and the files beside it count."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import FingerprintError, TorchFeatureExtractor
from sklearn_torch_bridge._known._row_contents import RowContents


@pytest.fixture
def rows(tmp_path):
    """Give the paths of two equal files, beside which other numbers lie."""
    paths = []
    for name, number in (("a", 1), ("b", 5)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "x.txt").write_text("3")
        (folder / "x.json").write_text(json.dumps(number))
        paths.append(folder / "x.txt")
    return paths


def beside(paths):
    numbers = [json.loads(path.with_suffix(".json").read_text()) for path in paths]
    return torch.tensor(numbers, dtype=torch.float32)[:, None]


def by_its_name(paths):
    texts = [open(f"{str(path)[:-4]}.json").read() for path in paths]  # noqa: PTH123, SIM115 - as users do
    return torch.tensor([[float(text)] for text in texts])


def labels(pairs):
    return beside([path for path, _ in pairs])


@pytest.mark.parametrize("preprocess", [beside, by_its_name, partial(beside), labels])
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_files_beside_a_path_count(preprocess, rows, cache, tmp_path):
    X = [(row, 0) for row in rows] if preprocess is labels else rows
    extractor = TorchFeatureExtractor(nn.ReLU(), preprocess=preprocess, cache=cache)
    np.testing.assert_array_equal(extractor.transform(X), [[1], [5]])
    np.testing.assert_array_equal(extractor.transform(X[::-1]), [[5], [1]])
    Z = extractor.transform_to_file(X, tmp_path / "Z.npy")
    np.testing.assert_array_equal(Z, [[1], [5]])
    assert len(cache) == 2
    rows[0].with_suffix(".json").write_text("7")
    np.testing.assert_array_equal(extractor.transform(X), [[7], [5]])


def place(paths):
    return torch.tensor([[float(len(str(path)))] for path in paths])


def test_the_place_of_a_path_counts(rows, tmp_path, cache):
    far = tmp_path / "further" / "away"
    far.mkdir(parents=True)
    copied = shutil.copy(rows[0], far / "x.txt")
    extractor = TorchFeatureExtractor(nn.ReLU(), preprocess=place, cache=cache)
    found = extractor.transform([rows[0], copied])
    np.testing.assert_array_equal(found, place([rows[0], copied]))


def test_other_files_of_the_folder_do_not_count(rows, tmp_path):
    contents = RowContents(beside, None)
    before = contents.of_each(rows)
    (tmp_path / "a" / "y.json").write_text("8")
    assert contents.of_each(rows) == before
    (tmp_path / "a" / "x.b.json").write_text("8")
    assert contents.of_each(rows) != before


def of_the_folder(paths):
    texts = [(path.parent / "scale").read_text() for path in paths]
    return torch.tensor([[float(text)] for text in texts])


def of_another_folder(paths):
    return torch.tensor([[float(len(str(path).replace("a", "b")))] for path in paths])


@pytest.mark.parametrize("preprocess", [of_the_folder, of_another_folder])
def test_code_that_may_go_to_other_folders_asks_for_a_key(
    preprocess, rows, cache, tmp_path
):
    for row in rows:
        (row.parent / "scale").write_text("2")
    extractor = TorchFeatureExtractor(nn.ReLU(), preprocess=preprocess, cache=cache)
    with pytest.raises(FingerprintError, match=r"other files \(`.*Give `cache_key`"):
        extractor.transform(rows)
    with pytest.raises(FingerprintError, match=r"other files \(`.*Give `cache_key`"):
        extractor.transform_to_file(rows, tmp_path / "Z.npy")
    assert extractor.set_params(cache_key="1").transform(rows).shape == (2, 1)


def test_of_a_path_for_a_librarys_code_the_content_counts(rows):
    contents = RowContents(None, None).of_each(rows)
    assert contents[0] == contents[1]
    assert len(set(RowContents(beside, None).of_each(rows))) == 2
