"""Rows of several shapes, of any kind: those of one shape share a batch."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, layer_table
from tests.tiny_models import Items, Tally

SAME = {"rtol": 1e-5, "atol": 1e-5}


def as_objects(rows):
    array = np.empty(len(rows), object)
    for row, value in enumerate(rows):
        array[row] = value
    return array


SHAPES = {
    "ids": [(3,), (5,), (3,), (1,), (5,)],
    "steps": [(3, 2), (5, 2), (3, 2), (1, 2), (5, 2)],
    "channels first": [(3, 2), (3, 4), (3, 2), (3, 1), (3, 4)],
    "both axes": [(3, 2), (2, 3), (3, 2), (1, 6), (3, 4)],
    "pictures": [(3, 4, 5), (3, 5, 4), (3, 4, 5), (3, 8, 8), (3, 5, 4)],
    "clips": [(2, 3, 4, 5), (2, 3, 5, 4), (1, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 1)],
}


def lists_of(rows):
    return [row.tolist() for row in rows]


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "objects": as_objects,
    "tensors": lambda rows: [torch.tensor(row) for row in rows],
    "lists": lists_of,
    "tuples": lambda rows: tuple(map(tuple, lists_of(rows))),
    "lists and arrays": lambda rows: [rows[0].tolist(), *rows[1:]],
    "arrays and lists": lambda rows: [rows[0], *lists_of(rows[1:])],
    "objects of lists": lambda rows: as_objects(lists_of(rows)),
    "Series": lambda rows: pd.Series(list(rows)),
    "Series of lists": lambda rows: pd.Series(lists_of(rows)),
    "frame": lambda rows: pd.DataFrame({"a": list(rows)}),
    "polars": lambda rows: pl.Series(lists_of(rows)),
    "Dataset": Items,
    "Dataset of dicts": lambda rows: Items([{"x": row} for row in rows]),
    "examples": lambda rows: [(row, 0) for row in rows],
    "mapping": lambda rows: {"x": list(rows), "y": np.arange(len(rows))},
    "mapping of lists": lambda rows: {"x": lists_of(rows)},
    "mapping of tensors": lambda rows: {"x": [torch.tensor(row) for row in rows]},
    "mapping of objects": lambda rows: {"x": as_objects(rows)},
}


class Edges(nn.Module):
    """Takes rows of any shape; a value more at the end of any axis changes them."""

    def __init__(self):
        super().__init__()
        self.tally = Tally()

    def forward(self, x, y=None):
        del y
        self.tally(tuple(x.shape))
        values = x.double().flatten(1)
        sums = torch.stack([values.cumsum(1).sum(1), values.mean(1)], 1).float()
        return sums.repeat(1, 8)  # more than there are rows: no doubt which these are


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_rows_of_one_shape_share_a_batch(container, shapes, dtype, rng, tmp_path):
    model = Edges()
    rows = [(9 * rng.normal(size=shape)).astype(dtype) for shape in SHAPES[shapes]]
    alone = np.vstack([model(torch.tensor(row)[None]).numpy() for row in rows])
    X = CONTAINERS[container](rows)
    model.tally.sizes.clear()
    extractor = TorchFeatureExtractor(model)
    np.testing.assert_allclose(extractor.transform(X), alone, **SAME)
    expected = {(SHAPES[shapes].count(one), *one) for one in SHAPES[shapes]}
    assert {*model.tally.sizes} == expected
    for options in (
        *({"batch_size": "auto"}, {"batch_size": 1}, {"num_workers": 1}),
        *({"on_error": "nan"}, {"cache": tmp_path / "e.db"}, {"dtype": "float64"}),
    ):
        extractor = TorchFeatureExtractor(model, **options)
        np.testing.assert_allclose(extractor.fit_transform(X), alone, **SAME)
        np.testing.assert_allclose(extractor.transform(X), alone, **SAME)
    Z = extractor.transform_to_file(X, tmp_path / "Z.npy")
    np.testing.assert_allclose(Z, alone, **SAME)


@pytest.mark.parametrize("container", ["list", "Dataset", "mapping"])
def test_pictures_of_two_sizes_go_through_a_convolution(container, rng, tmp_path):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)
    conv.forward = lambda x, y=None: nn.Conv2d.forward(conv, x)
    rows = [rng.normal(size=(3, 8 + n % 2, 8)).astype(np.float32) for n in range(5)]
    X = CONTAINERS[container](rows)
    for pooling in ("mean", "max", "gap", "gmp"):
        extractor = TorchFeatureExtractor(conv, pooling=pooling)
        alone = np.vstack([extractor.transform(row[None]) for row in rows])
        np.testing.assert_allclose(extractor.transform(X), alone, **SAME)
    flat = TorchFeatureExtractor(conv, pooling="flatten", cache=tmp_path / "e.db")
    for _ in range(2):  # what the cache has helps as little
        with pytest.raises(ValueError, match=r"of rows? .* of `X` have another: got"):
            flat.transform(X)
    with pytest.raises(ValueError, match="Pool rows of different length or size"):
        flat.set_params(cache=None, cache_key="a").transform_to_file(X, tmp_path / "Z")


def test_a_part_of_rows_of_several_shapes_may_be_cached(rng, tmp_path):
    rows = [rng.normal(size=(3, 2 + n % 3)).astype(np.float32) for n in range(9)]
    kept = TorchFeatureExtractor(Edges(), cache=tmp_path / "e.db")
    for container in ("list", "mapping of lists", "Dataset", "Dataset of dicts"):
        X = CONTAINERS[container]
        kept.transform(X(rows[2:5]))
        expected = TorchFeatureExtractor(Edges()).transform(X(rows))
        np.testing.assert_allclose(kept.transform(X(rows)), expected, **SAME)


def test_a_layer_table_is_of_rows_of_one_shape(rng):
    rows = [rng.normal(size=(3, 2 + n % 3)).astype(np.float32) for n in range(9)]
    for container in ("list", "Dataset", "mapping"):
        table = layer_table(Edges(), CONTAINERS[container](rows))
        assert table[""].shape == (3, 16)


class Sums(nn.Module):
    """Adds up all real values of a row."""

    def __init__(self):
        super().__init__()
        self.tally = Tally()

    def forward(self, x, attention_mask):
        self.tally(tuple(x.shape))
        return (x.sum(2) * attention_mask).sum(1)


def test_only_the_first_axis_is_padded_under_a_mask(rng):
    model = Sums()
    rows = [rng.normal(size=(1 + n, 2 + n % 2)) for n in range(6)]
    Z = TorchFeatureExtractor(model).transform(rows)
    np.testing.assert_allclose(Z[:, 0], [row.sum() for row in rows], **SAME)
    assert model.tally.sizes[-2:] == [(3, 6, 3), (3, 5, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("compile_", [False, True], ids=["plain", "compiled"])
def test_several_axes_may_differ_for_compiled_code(compile_, rng):
    class Spread(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head(x.tanh().flatten(2).mean(-1))

    rows = [rng.normal(size=(3, 5, 2 + n)).astype(np.float32) for n in range(12)]
    model = Spread()
    Z = TorchFeatureExtractor(model, compile=compile_).transform(rows)
    alone = [model(torch.tensor(row)[None])[0].detach().numpy() for row in rows]
    np.testing.assert_allclose(Z, alone, **SAME)
