"""Mappings, Datasets and sparse matrices give what a loop by hand gives."""

from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from sklearn_torch_bridge import (
    BadRowWarning,
    EmbeddingCache,
    ForwardError,
    TorchFeatureExtractor,
    precompute,
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


# Mappings ---------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 32])
@pytest.mark.parametrize("dress", [np.asarray, torch.tensor, list], ids=str)
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
        ({"x": [[1.0], [2.0, 3.0]]}, ValueError, "column 'x' of `X` cannot"),
        ({"x": [torch.ones(1), torch.ones(2)]}, ValueError, "column 'x' of `X` cannot"),
        (
            {"x": np.ma.masked_array(np.ones(2), [True, False])},
            ValueError,
            "column 'x' of `X` has masked",
        ),
    ],
    ids=[
        *("none", "key", "texts", "number", "lengths", "unknown", "ragged"),
        *("ragged tensors", "masked"),
    ],
)
def test_columns_that_cannot_be_used_are_named(X, error, match):
    with pytest.raises(error, match=match):
        TorchFeatureExtractor(TwoInputs()).fit(X)


# Datasets ---------------------------------------------------------------------------


class Pictures(Dataset):
    """Items with targets, each made when it is asked for."""

    def __init__(self, n, *, bad=None, as_dict=False):
        self.n, self.bad, self.as_dict = n, bad, as_dict
        self.read = []

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        if row == self.bad:
            msg = "this picture is broken"
            raise OSError(msg)
        self.read.append(row)
        x = torch.full((2, 3), float(row))
        return {"x": x, "y": x[:, 0]} if self.as_dict else (x, row % 2)


def expected_of(n):
    return np.repeat(np.arange(n, dtype="float32")[:, None], 3, axis=1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_dataset_is_read_an_item_at_a_time(num_workers):
    dataset = Pictures(7)
    extractor = TorchFeatureExtractor(
        nn.Identity(), batch_size=3, num_workers=num_workers
    )
    np.testing.assert_array_equal(extractor.transform(dataset), expected_of(7))
    assert sorted(dataset.read) == [0, *range(7)]  # the first is looked at


def test_of_a_dataset_that_grows_the_first_rows_are_taken():
    class Growing(Dataset):
        rows: ClassVar[list[float]] = [0.0, 1.0, 2.0]

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, row):
            self.rows.extend([9.0] * 100)
            return torch.full((2,), self.rows[row])

    extractor = TorchFeatureExtractor(nn.Linear(2, 1), batch_size=2)
    assert extractor.transform(Growing()).shape == (3, 1)


def test_the_inputs_of_a_dataset_are_what_stands_first():
    X, y = torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 0])
    Z = TorchFeatureExtractor(nn.Identity()).fit_transform(TensorDataset(X, y))
    np.testing.assert_array_equal(Z, X.numpy())


def test_items_that_are_mappings_are_keyword_arguments():
    class Sum(nn.Module):
        def forward(self, x, y):
            return x.sum((1, 2))[:, None] + y.sum(1)[:, None]

    Z = TorchFeatureExtractor(Sum()).transform(Pictures(4, as_dict=True))
    np.testing.assert_array_equal(Z[:, 0], np.arange(4) * 8.0)


def test_a_preprocess_gets_items_whole():
    extractor = TorchFeatureExtractor(
        nn.Identity(),
        preprocess=lambda items: torch.tensor([[float(y)] for _, y in items]),
    )
    assert extractor.transform(Pictures(4))[:, 0].tolist() == [0, 1, 0, 1]


def test_texts_of_a_dataset_are_texts(minilm_path, texts):
    class Texts(Dataset):
        def __len__(self):
            return len(texts)

        def __getitem__(self, row):
            return texts[row]

    extractor = TorchFeatureExtractor(f"hf:{minilm_path}")
    np.testing.assert_array_equal(
        extractor.transform(Texts()), extractor.transform(texts)
    )


def test_the_folds_of_a_dataset_are_lists_of_its_items():
    """As scikit-learn cuts what it does not know."""
    dataset = Pictures(5)
    rows = [dataset[row] for row in (4, 1)]
    Z = TorchFeatureExtractor(nn.Identity()).transform(rows)
    np.testing.assert_array_equal(Z[:, 0], [4, 1])


def test_a_broken_item_is_named_or_becomes_nan():
    with pytest.raises(ForwardError, match="on row 4: OSError: this picture"):
        TorchFeatureExtractor(nn.Identity()).transform(Pictures(6, bad=4))
    forgiving = TorchFeatureExtractor(nn.Identity(), on_error="nan")
    with pytest.warns(BadRowWarning, match="row 4"):
        Z = forgiving.transform(Pictures(6, bad=4))
    assert np.isnan(Z).all(axis=1).tolist() == [row == 4 for row in range(6)]


@pytest.mark.parametrize("bad", [0, 4])
def test_a_broken_item_is_no_end_with_a_cache(tmp_path, bad):
    store = EmbeddingCache(tmp_path / "e.db")
    forgiving = TorchFeatureExtractor(nn.Identity(), on_error="nan", cache=store)
    for _ in range(2):
        with pytest.warns(BadRowWarning, match=f"row {bad} "):
            Z = forgiving.transform(Pictures(6, bad=bad))
        assert np.isnan(Z).all(axis=1).tolist() == [row == bad for row in range(6)]
    assert store.stats()["rows"] == 5
    np.testing.assert_array_equal(forgiving.transform(Pictures(6)), expected_of(6))


def test_a_dataset_of_nothing_but_broken_items_says_why():
    class Broken(Pictures):
        def __getitem__(self, row):
            msg = "broken"
            raise OSError(msg)

    with pytest.raises(OSError, match="broken"):
        TorchFeatureExtractor(nn.Identity()).transform(Broken(2))


def test_a_tokenizer_takes_the_texts_of_items_with_targets(minilm, tokenizer, texts):
    items = [(text, number) for number, text in enumerate(texts)]

    class Reviews(Dataset):
        def __len__(self):
            return len(items)

        def __getitem__(self, row):
            return items[row]

    extractor = TorchFeatureExtractor(minilm, preprocess=tokenizer)
    np.testing.assert_array_equal(
        extractor.transform(Reviews()), extractor.transform(texts)
    )


def test_columns_may_be_read_backwards(columns):
    backwards = {name: column[::-1] for name, column in columns.items()}
    extractor = TorchFeatureExtractor(TwoInputs())
    np.testing.assert_allclose(
        extractor.transform(backwards)[::-1], extractor.transform(columns), rtol=1e-6
    )
    assert extractor.transform({k: c[:0] for k, c in backwards.items()}).shape == (0, 4)


def test_items_of_different_shapes_are_told():
    class Odd(Pictures):
        def __getitem__(self, row):
            return torch.ones(1 + row)

    with pytest.raises(ForwardError, match=r"one shape, got \(1,\), \(2,\)"):
        TorchFeatureExtractor(nn.Identity()).transform(Odd(2))


def test_an_item_that_is_not_finite_is_named():
    class Odd(Pictures):
        def __getitem__(self, row):
            return torch.tensor([1.0, np.inf if row == 2 else 0.0])

    words = "stacking `X` failed on row 2: ValueError: an item must be finite"
    with pytest.raises(ForwardError, match=words):
        TorchFeatureExtractor(nn.Identity()).transform(Odd(4))


def test_a_cache_knows_the_items_of_a_dataset(tmp_path):
    store = EmbeddingCache(tmp_path / "e.db")
    extractor = TorchFeatureExtractor(nn.Identity(), cache=store)
    precompute(extractor, Pictures(5))
    np.testing.assert_array_equal(extractor.transform(Pictures(5)), expected_of(5))
    assert store.stats()["rows"] == 5


def test_a_dataset_without_length_is_refused():
    class Endless(IterableDataset):
        def __iter__(self):
            yield torch.ones(1)

    with pytest.raises(TypeError, match="Endless, an iterable Dataset"):
        TorchFeatureExtractor(nn.Identity()).transform(Endless())


def test_a_dataset_without_items_is_refused_by_fit():
    with pytest.raises(ValueError, match="0 sample"):
        TorchFeatureExtractor(nn.Identity()).fit(Pictures(0))


# Sparse matrices --------------------------------------------------------------------

FORMATS = ["csr", "csc", "coo", "dok", "lil", "bsr"]


@pytest.fixture
def sparse(rng):
    dense = rng.normal(size=(50, 20)) * (rng.random((50, 20)) < 0.1)
    return scipy.sparse.csr_array(dense)


@pytest.mark.parametrize("layout", FORMATS)
def test_a_sparse_matrix_is_dense_a_batch_at_a_time(sparse, layout):
    torch.manual_seed(0)
    model = nn.Linear(20, 3)
    X = sparse.asformat(layout)
    extractor = TorchFeatureExtractor(model, batch_size=7).fit(X)
    expected = extractor.transform(sparse.toarray())
    np.testing.assert_array_equal(extractor.transform(X), expected)
    assert extractor.n_features_in_ == 20


def test_a_sparse_matrix_is_never_dense_as_a_whole(sparse, monkeypatch):
    shapes = []
    toarray = scipy.sparse.csr_array.toarray

    def watched(self, *args, **kwargs):
        shapes.append(self.shape)
        return toarray(self, *args, **kwargs)

    monkeypatch.setattr(scipy.sparse.csr_array, "toarray", watched)
    TorchFeatureExtractor(nn.Identity(), batch_size=8).transform(sparse)
    assert max(rows for rows, _ in shapes) == 8


def test_a_cache_knows_sparse_rows_as_dense_ones(sparse, tmp_path):
    store = EmbeddingCache(tmp_path / "e.db")
    extractor = TorchFeatureExtractor(nn.Identity(), cache=store)
    Z = extractor.transform(sparse)
    np.testing.assert_array_equal(extractor.transform(sparse.toarray()), Z)
    assert store.stats()["misses"] == len(np.unique(Z, axis=0))


def test_sparse_rows_that_are_not_finite(sparse):
    sparse.data[0] = np.inf
    row = np.flatnonzero(np.diff(sparse.indptr))[0]
    with pytest.raises(ValueError, match="contains infinity"):
        TorchFeatureExtractor(nn.Identity()).transform(sparse)
    with pytest.warns(BadRowWarning, match=f"row {row} "):
        Z = TorchFeatureExtractor(nn.Identity(), on_error="nan").transform(sparse)
    assert np.flatnonzero(np.isnan(Z).all(axis=1)).tolist() == [row]


def test_the_number_of_columns_of_a_sparse_matrix_is_checked(sparse):
    extractor = TorchFeatureExtractor(nn.Identity()).fit(sparse)
    with pytest.raises(ValueError, match="has 19 features"):
        extractor.transform(sparse[:, :19])
    assert extractor.transform(sparse[:0]).shape == (0, 20)


def test_sparse_output_of_a_step_feeds_a_model(sparse):
    pipe = make_pipeline(
        StandardScaler(with_mean=False), TorchFeatureExtractor(nn.Identity())
    )
    Z = pipe.fit_transform(sparse)
    expected = StandardScaler(with_mean=False).fit_transform(sparse.toarray())
    np.testing.assert_allclose(Z, expected, rtol=1e-6)
