"""Mappings of columns give what a loop by hand gives."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    EmbeddingCache,
    TorchFeatureExtractor,
)


class TwoInputs(nn.Module):
    """Takes two inputs by name; a mask may say which steps are real."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 4)

    def forward(self, x, y, attention_mask=None):
        assert x.dtype == y.dtype == torch.float32
        return self.linear(x) * (1 + y.sum(-1))[..., None]


@pytest.fixture
def columns(rng):
    return {"x": rng.normal(size=(9, 3)), "y": rng.normal(size=(9, 2))}


def by_hand(model, columns):
    given = {name: torch.tensor(np.asarray(c)).float() for name, c in columns.items()}
    with torch.inference_mode():
        return model(**given).numpy()


@pytest.mark.parametrize("batch_size", [1, 4, 32])
@pytest.mark.parametrize(
    "dress", [np.asarray, torch.tensor, list], ids=["array", "tensor", "list"]
)
def test_columns_are_keyword_arguments(columns, batch_size, dress):
    model = TwoInputs()
    X = {name: dress(column) for name, column in columns.items()}
    Z = TorchFeatureExtractor(model, batch_size=batch_size).fit_transform(X)
    np.testing.assert_allclose(Z, by_hand(model, columns), rtol=1e-6)


def test_a_column_named_attention_mask_tells_real_tokens(rng):
    hidden, mask = rng.normal(size=(5, 6, 3)), rng.integers(0, 2, (5, 6))
    mask[:, 0] = 1
    model = nn.Module()
    model.forward = lambda x, attention_mask: x
    X = {"x": hidden.astype("float32"), "attention_mask": mask}
    Z = TorchFeatureExtractor(model, batch_size=2).transform(X)
    expected = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    np.testing.assert_allclose(Z, expected, rtol=1e-5)


def test_a_mask_in_the_words_of_torch_tells_real_tokens():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    module = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    rows = [torch.randn(length, 8) for length in (3, 5, 2)]
    src = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    padding = torch.arange(5) >= torch.tensor([[3], [5], [2]])
    extractor = TorchFeatureExtractor(module)
    Z = extractor.transform({"src": src, "src_key_padding_mask": padding})
    np.testing.assert_allclose(Z, extractor.transform(rows), rtol=1e-5, atol=1e-6)

    floats = torch.zeros(padding.shape).masked_fill(padding, -torch.inf)
    made = extractor.transform({"src": src, "src_key_padding_mask": floats})
    np.testing.assert_allclose(made, Z, rtol=1e-5, atol=1e-6)


def test_a_finite_bias_of_a_mask_is_no_padding():
    class Biased(nn.Module):
        def forward(self, x, src_key_padding_mask):
            return x

    mask = torch.tensor([[0.0, -0.5, -torch.inf, torch.finfo(torch.float32).min]])
    X = {"x": torch.tensor([[[1.0], [3.0], [100.0], [100.0]]])}
    Z = TorchFeatureExtractor(Biased()).transform(X | {"src_key_padding_mask": mask})
    assert Z.tolist() == [[2.0]]


def test_tensors_in_a_column_need_no_gradient():
    X = {"input": [torch.ones(2, requires_grad=True)] * 3}
    assert TorchFeatureExtractor(nn.Linear(2, 2)).transform(X).shape == (3, 2)


def test_columns_are_not_written_to(columns):
    class InPlace(nn.Module):
        def forward(self, x, y):
            return x.zero_() + y.sum()

    columns = {name: column.astype("float32") for name, column in columns.items()}
    before = {name: column.copy() for name, column in columns.items()}
    TorchFeatureExtractor(InPlace()).transform(columns)
    TorchFeatureExtractor(InPlace()).transform(
        {name: torch.from_numpy(column) for name, column in columns.items()}
    )
    for name, column in columns.items():
        np.testing.assert_array_equal(column, before[name])


@pytest.mark.parametrize("dress", [np.asarray, torch.tensor], ids=["array", "tensor"])
def test_columns_without_rows_have_the_width(columns, dress):
    nothing = {name: dress(column[:0]) for name, column in columns.items()}
    assert TorchFeatureExtractor(TwoInputs()).transform(nothing).shape == (0, 4)


def test_a_cache_knows_rows_of_columns(columns, tmp_path):
    store = EmbeddingCache(tmp_path / "e.db")
    extractor = TorchFeatureExtractor(TwoInputs(), cache=store)
    Z = extractor.transform(columns)
    order = np.random.default_rng(0).permutation(9)
    shuffled = {name: column[order] for name, column in columns.items()}
    np.testing.assert_array_equal(extractor.transform(shuffled), Z[order])
    assert store.stats()["rows"] == 9


def test_a_row_of_columns_that_is_not_finite(columns):
    columns["y"][3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3 of column 'y' has NaN"):
        TorchFeatureExtractor(TwoInputs()).transform(columns)
    with pytest.warns(BadRowWarning, match="row 3"):
        Z = TorchFeatureExtractor(TwoInputs(), on_error="nan").transform(columns)
    assert np.isnan(Z).any(axis=1).tolist() == [row == 3 for row in range(9)]


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        ({}, ValueError, "must have a column"),
        ({1: [1.0]}, TypeError, "must have str as keys, got 1"),
        ({"x": ["a"]}, TypeError, "column 'x' is of dtype"),
        ({"x": 3.0}, TypeError, "column 'x' is of dtype"),
        (
            {"x": np.ones((2, 3)), "y": np.ones((3, 2))},
            ValueError,
            r"one length, got \{'x': 2, 'y': 3\}",
        ),
        ({"x": np.ones((2, 3)), "z": np.ones(2)}, ValueError, "has the column 'z'"),
        (
            {"x": [[1.0], [[2.0, 3.0]]]},
            TypeError,
            r"row 1 of column 'x' has shape \(1, 2\)",
        ),
        ({"x": [torch.ones(1), None]}, TypeError, "row 1 of column 'x' is missing"),
        ({"x": [torch.ones(1), torch.ones(0)]}, TypeError, r"'x' has shape \(0,\)"),
        (
            {"x": np.ma.masked_array(np.ones(2), [True, False])},
            ValueError,
            "column 'x' of `X` has masked",
        ),
    ],
    ids=[
        *("none", "key", "texts", "number", "lengths", "unknown", "axes"),
        *("missing", "empty", "masked"),
    ],
)
def test_columns_that_cannot_be_used_are_named(X, error, match):
    with pytest.raises(error, match=match):
        TorchFeatureExtractor(TwoInputs()).fit(X)


def test_columns_may_be_read_backwards(columns):
    backwards = {name: column[::-1] for name, column in columns.items()}
    extractor = TorchFeatureExtractor(TwoInputs())
    np.testing.assert_allclose(
        extractor.transform(backwards)[::-1], extractor.transform(columns), rtol=1e-6
    )
    assert extractor.transform({k: c[:0] for k, c in backwards.items()}).shape == (0, 4)


def test_a_bad_value_of_a_column_of_scalars_is_one_bad_row():
    model = nn.Module()
    model.forward = lambda x, scale: x * scale[:, None]
    X = {"x": torch.ones(3, 2), "scale": torch.tensor([1.0, torch.nan, 2.0])}
    extractor = TorchFeatureExtractor(model)
    with pytest.raises(ValueError, match="row 1 of column 'scale' has NaN"):
        extractor.transform(X)
    with pytest.warns(BadRowWarning, match="^row 1 of"):
        Z = extractor.set_params(on_error="nan").transform(X)
    np.testing.assert_array_equal(Z, [[1, 1], [np.nan, np.nan], [2, 2]])


def test_a_bad_value_is_named_with_the_column_that_holds_it():
    X = {"x": np.ones((9, 3)), "y": np.ones((9, 2))}
    X["y"][2, 0], X["x"][7, 1] = np.nan, np.inf
    with pytest.raises(ValueError, match="row 7 of column 'x' has NaN or infinity"):
        TorchFeatureExtractor(TwoInputs()).transform(X)
