"""Datasets are read an item at a time; a bad item is named."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from sklearn_torch_bridge import (
    BadRowWarning,
    ConversionError,
    EmbeddingCache,
    ForwardError,
    TorchFeatureExtractor,
    precompute,
)


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
        nn.Identity(), batch_size=4, num_workers=num_workers
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


def test_items_of_different_shapes_have_no_one_width():
    class Odd(Pictures):
        def __getitem__(self, row):
            return torch.ones(1 + row)

    with pytest.raises(ValueError, match=r"of row 1 of `X` have another: got \(1, 2"):
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


def test_integers_among_floats_of_a_dataset_are_not_rounded():
    class Mixed(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, row):
            return [np.array([2**24 + 1]), np.array([0.5], "float32")][row]

    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return x * 1

    for batch_size in (1, 2):
        extractor = TorchFeatureExtractor(Weighted(), batch_size=batch_size)
        with pytest.raises((ForwardError, ValueError), match=str(2**24 + 1)):
            extractor.transform(Mixed())


class Reading(Dataset):
    """Reads items of what it does not hold itself."""

    def __init__(self, read):
        self.read = read

    def __len__(self):
        return 2

    def __getitem__(self, row):
        return self.read(row)


@pytest.mark.parametrize(
    "make",
    [
        TensorDataset,
        lambda tensor: Subset(TensorDataset(tensor), [1, 0]),
        lambda tensor: Reading(lambda row: tensor[row]),
    ],
    ids=["tensors", "subset", "own"],
)
@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_a_dataset_of_freed_memory_says_so(make, on_error):
    tensor = torch.ones(2, 3)
    X = make(tensor)
    tensor.untyped_storage().resize_(0)
    extractor = TorchFeatureExtractor(nn.ReLU(), on_error=on_error)
    with pytest.raises(ConversionError, match=r"is a \w+ that reads .* was freed"):
        extractor.transform(X)
