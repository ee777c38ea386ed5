"""Masked, freed and absent values are found at any depth, before they are read."""

from collections import UserDict, UserList, deque, namedtuple

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from torch import nn
from torch.utils.data import Dataset

from sklearn_torch_bridge import (
    ConversionError,
    TensorToArray,
    TorchFeatureExtractor,
    to_numpy,
)
from sklearn_torch_bridge._convert import deep_fault, hidden_fault, iter_faults
from sklearn_torch_bridge._convert._hidden_values import check_there


def freed(tensor, n_bytes=0, view=lambda tensor: tensor):
    seen = view(tensor)
    tensor.untyped_storage().resize_(n_bytes)
    return seen


HIDDEN = {
    "freed": lambda: freed(torch.ones(3)),
    "shrunk": lambda: freed(torch.ones(3), 8),
    "view of shrunk": lambda: freed(torch.ones(4, 3), 24, lambda x: x[3]),
    "freed, transposed": lambda: freed(torch.ones(2, 3), 0, lambda x: x.T),
    "freed integers": lambda: freed(torch.ones(3, dtype=torch.int64)),
    "freed float8": lambda: freed(torch.ones(3).to(torch.float8_e5m2)),
    "freed number": lambda: freed(torch.ones(())),
    "freed, expanded": lambda: freed(torch.ones(1), 0, lambda x: x.expand(3)),
    "freed, with gradient": lambda: freed(torch.ones(3)).requires_grad_(),
    "freed parameter": lambda: torch.nn.Parameter(freed(torch.ones(3))),
    "meta": lambda: torch.ones(3, device="meta"),
    "masked": lambda: np.ma.masked_array([1.0, -999.0, 2.0], [False, True, False]),
    "masked integers": lambda: np.ma.masked_equal([1, -999], -999),
    "masked matrix": lambda: np.ma.masked_array(np.ones((2, 2)), np.eye(2)),
    "masked number": lambda: np.ma.masked,
    "masked tensor": lambda: torch.masked.masked_tensor(
        torch.ones(2), torch.tensor([True, False])
    ),
}
WORDS = r"mask|freed or resized|meta"


def objects(*values):
    found = np.empty(len(values), object)
    for place, value in enumerate(values):
        found[place] = value
    return found


class Masked:
    """An array of another library, which becomes a masked one."""

    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        return self.value


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - as callers write it
CONTAINERS = {
    "list": lambda one, other: [other, one],
    "tuple": lambda one, other: (other, one),
    "lists": lambda one, other: [[other], [one]],
    "tuples": lambda one, other: ([other], [one]),
    "list of tuples": lambda one, other: [(other,), (one,)],
    "deep": lambda one, other: [[[[other]]], [[[one]]]],
    "mappings": lambda one, other: [{"a": other}, {"a": [one]}],
    "user mappings": lambda one, other: [{"a": other}, UserDict({"a": [one]})],
    "named": lambda one, other: [Pair(other, 1), Pair(1, one)],
    "objects": lambda one, other: objects(other, one),
    "objects of lists": lambda one, other: objects([other], [one]),
    "objects of objects": lambda one, other: objects(objects(other), objects(one)),
    "two axes of objects": lambda one, other: objects(other, one).reshape(2, 1),
    "series": lambda one, other: pd.Series([other, one], index=[5, 5]),
    "series of lists": lambda one, other: pd.Series([[other], [one]]),
    "frame": lambda one, other: pd.DataFrame({"a": [1, 2], "b": objects(other, one)}),
    "polars": lambda one, other: pl.Series([other, one], dtype=pl.Object),
    "polars frame": lambda one, other: pl.DataFrame(
        {"a": [1, 2], "b": pl.Series([other, one], dtype=pl.Object)}
    ),
    "deque": lambda one, other: deque([other, one]),
    "user list": lambda one, other: UserList([[other], [one]]),
}


def other_than(one):
    """Return a value of the same kind that is there."""
    if isinstance(one, torch.Tensor):
        return torch.ones(one.shape, dtype=one.dtype)
    return np.ones(one.shape)


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors:UserWarning")
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", HIDDEN)
def test_it_is_found_in_every_container_with_its_row(name, container):
    one = HIDDEN[name]()
    other = 1.0 if "masked tensor" in name else other_than(one)
    assert hidden_fault(one) is not None
    X = CONTAINERS[container](one, other)
    assert [row for row, _ in iter_faults(X)] == [1]
    assert deep_fault(X) == hidden_fault(one)
    with pytest.raises(ConversionError, match=rf"row 1 .*({WORDS})"):
        check_there(X)


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors:UserWarning")
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", HIDDEN)
def test_no_entry_point_reads_it(name, container):
    """A mask was lost, and the process ended or garbage came back."""
    one = HIDDEN[name]()
    X = CONTAINERS[container](one, other_than(one) if "tensor" not in name else 1.0)
    ours = (ConversionError, ValueError, TypeError)
    for convert in (
        to_numpy,
        lambda X: to_numpy(X, copy=None),
        TensorToArray().fit_transform,
        TensorToArray(flatten=True).transform,
        TensorToArray().inverse_transform,
    ):
        with pytest.raises(ours):
            convert(X)


@pytest.mark.parametrize("convert", [to_numpy, TensorToArray().fit_transform])
@pytest.mark.parametrize(
    "X",
    [
        pytest.param([np.ones(2), np.ma.masked_equal([1.0, -9], -9)], id="list"),
        pytest.param([[1.0, 2.0], [np.ma.masked, 1.0]], id="nested"),
        pytest.param(
            pd.Series([np.ones(1), np.ma.masked_equal([-9], -9)]), id="series"
        ),
        pytest.param(objects(np.ones(1), np.ma.masked_equal([-9], -9)), id="objects"),
    ],
)
def test_a_masked_row_is_named(convert, X):
    with pytest.raises(ConversionError, match=r"row 1 .*has masked values"):
        convert(X)


@pytest.mark.parametrize("convert", [to_numpy, TensorToArray().fit_transform])
def test_what_becomes_a_masked_array_is_refused(convert):
    with pytest.raises(ConversionError, match="mask would be lost"):
        convert(Masked(np.ma.masked_equal([[1.0, -9]], -9)))


def test_a_mask_without_masked_values_is_none():
    whole = np.ma.masked_array([[1.0, 2.0]], mask=False)
    assert to_numpy(whole).tolist() == [[1, 2]]
    assert type(to_numpy(whole)) is np.ndarray
    assert to_numpy([whole[0], whole[0]]).tolist() == [[1, 2]] * 2
    assert TensorToArray().fit_transform(whole).tolist() == [[1, 2]]


def test_a_dataset_is_none_of_rows_for_a_conversion():
    class Rows(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, row):
            return freed(torch.ones(3))

    with pytest.raises(ConversionError, match="Collect its rows in a list"):
        TensorToArray().fit_transform(Rows())


def test_lists_that_hold_themselves_end():
    X = [1.0]
    X.append(X)
    assert deep_fault(X) is None


def as_objects(rows):
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


FIELDS = [("a", int), ("b", float)]


@pytest.mark.parametrize("mask", [(0, 1), (1, 1)])
def test_a_mask_of_one_field_is_found(mask):
    array = np.ma.array([(1, 2.0), (3, 4.0)], dtype=FIELDS, mask=[mask, (0, 0)])
    assert hidden_fault(array) == deep_fault([array[0]]) == "has masked values"
    assert hidden_fault(array[1:]) is None
    with pytest.raises(ConversionError, match=r"mask would be lost"):
        to_numpy(array)
    with pytest.raises(ConversionError, match=r"no plain numbers"):
        to_numpy(array[1:])


@pytest.mark.parametrize("kind", [sp.csr_array, sp.coo_array, sp.csr_matrix])
@pytest.mark.parametrize("hold", [list, tuple, as_objects], ids=["list", "tuple", "O"])
@pytest.mark.parametrize(
    "take",
    [to_numpy, TensorToArray().transform, TorchFeatureExtractor(nn.ReLU()).transform],
    ids=["function", "array", "extractor"],
)
def test_sparse_matrices_as_rows_are_to_be_joined(kind, hold, take):
    X = hold([kind(np.ones((1, 2))) for _ in range(3)])
    with pytest.raises(ConversionError, match=r"row 0.* sparse .*vstack\(rows\)"):
        take(X)
