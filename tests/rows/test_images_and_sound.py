"""Images, sound and paths of these: missing ones, and those that no model opens."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import BadRowWarning, TorchFeatureExtractor, models
from sklearn_torch_bridge._rows._images_and_sound import MEDIA, as_file, is_foreign
from tests.rows import given_rows


class Sizes:
    """A processor of pictures that makes of each its number of bytes."""

    def __call__(self, rows):
        sizes = [row.stat().st_size if isinstance(row, Path) else row.n for row in rows]
        return torch.tensor(sizes, dtype=torch.float32)[:, None]


class Picture:
    def __init__(self, n):
        self.n = n


@pytest.fixture
def model():
    models.register("sizes", lambda _: models.LoadedModel(nn.Identity(), media=Sizes()))
    return "sizes:any"


def test_str_are_paths_for_a_model_that_opens_files(model, tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    extractor = TorchFeatureExtractor(model, on_error="nan")
    names = [str(tmp_path / "a"), str(tmp_path / "none"), None]
    with pytest.warns(BadRowWarning, match="^rows 1 to 2 of"):
        Z = extractor.transform(names)
    np.testing.assert_array_equal(Z, [[5], [np.nan], [np.nan]])
    with pytest.raises(ValueError, match="row 1 of `X` names a file that is not there"):
        extractor.set_params(on_error="raise").transform(names)


def test_pictures_in_memory_go_to_what_the_model_brings(model):
    Z = TorchFeatureExtractor(model).transform([Picture(3), Picture(4)])
    np.testing.assert_array_equal(Z, [[3], [4]])
    with pytest.raises(ValueError, match="row 1 of `X` is missing"):
        TorchFeatureExtractor(model).transform([Picture(3), None])


def test_pictures_for_a_model_that_brings_nothing_are_refused():
    rows = [Picture(1)]
    assert MEDIA.recognises(given_rows(rows))
    with pytest.raises(TypeError, match="holds Picture objects: give a `preprocess`"):
        TorchFeatureExtractor(nn.Identity()).transform(rows)


@pytest.mark.parametrize(
    ("value", "foreign"),
    [
        *((Path("a"), True), ({"a": 1}, True), (Picture(1), True), (1.0, False)),
        *(("a", False), (np.ones(2), False), (None, False), ([1], False)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_array_holds_is_foreign(value, foreign):
    assert is_foreign(value) is foreign


def test_a_mapping_that_only_names_a_file_is_that_file(model, tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    rows = [{"bytes": None, "path": str(tmp_path / name)} for name in ("a", "none")]
    np.testing.assert_array_equal(TorchFeatureExtractor(model).transform(rows[:1]), 5)
    with pytest.raises(ValueError, match="row 1 of `X` names a file that is not there"):
        TorchFeatureExtractor(model).transform(rows)
    for row in ({"bytes": b"1", "path": "a"}, {"bytes": None, "path": None}, "a"):
        assert as_file(row) is row


def test_numbers_before_pictures_are_no_picture(model):
    rows = [[1.0, 2], np.ones((3, 3, 3)), np.ones((4, 5, 3))]
    with pytest.raises(ValueError, match=r"row 0 has shape \(2,\), and another"):
        TorchFeatureExtractor(model).transform(rows)
