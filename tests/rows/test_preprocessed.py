"""Rows that go through a `preprocess`, and what that may return."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import (
    ForwardError,
    TorchFeatureExtractor,
)
from sklearn_torch_bridge._rows._base import FeedError
from sklearn_torch_bridge._rows._preprocessed import RowFeed
from sklearn_torch_bridge._types import UnevenBatchError


def rows(*numbers):
    return np.array(numbers)


@pytest.mark.parametrize(
    ("made", "n_args", "names"),
    [
        (torch.ones(2, 1), 1, []),
        (np.ones((2, 1)), 1, []),
        ((torch.ones(2, 1), torch.ones(2)), 2, []),
        ({"x": np.ones((2, 1)), "flag": True}, 0, ["x", "flag"]),
    ],
    ids=["tensor", "array", "tuple", "mapping"],
)
def test_preprocess_may_return_what_models_take(made, n_args, names):
    inputs = RowFeed(["a", "b"], lambda _: made, torch.float32).batch(rows(0, 1))
    assert len(inputs.args) == n_args
    assert list(inputs.kwargs) == names


def test_preprocess_gets_a_list_of_the_rows_asked_for():
    received = []

    def preprocess(given):
        received.append(given)
        return torch.zeros(len(given), 1)

    RowFeed(["a", "b", "c"], preprocess, torch.float32).batch(rows(2, 0))
    assert received == [["c", "a"]]


def stacked(given):
    return torch.stack([torch.as_tensor(row) for row in given])


def test_rows_that_come_in_several_shapes_are_parted():
    X = [np.ones(2), np.ones(3), np.ones(2), np.ones(3)]
    feed = RowFeed(X, stacked, torch.float32)
    with pytest.raises(UnevenBatchError) as caught:
        feed.batch(rows(1, 2, 3))
    assert [part.tolist() for part in caught.value.parts] == [[0, 2], [1]]
    shapes = TorchFeatureExtractor(Sizes(), preprocess=stacked).transform(X)
    assert shapes.tolist() == [[2], [3], [2], [3]]


def test_rows_of_one_shape_that_fail_together_fail():
    def preprocess(given):
        if len(given) > 1:
            raise RuntimeError
        return stacked(given)

    with pytest.raises(FeedError):
        RowFeed(np.ones((2, 3)), preprocess, torch.float32).batch(rows(0, 1))


class Sizes(nn.Module):
    def forward(self, x):
        return torch.full((len(x), 1), float(x.shape[1]))


def test_preprocess_may_write_to_its_rows():
    X = np.ones((3, 2))

    def preprocess(given):
        for row in given:
            row[:] = 0
        return np.stack(given)

    RowFeed(X, preprocess, torch.float32).batch(rows(0, 1))
    assert X.min() == 1


def test_floats_of_preprocess_are_cast_and_its_mask_is_the_mask():
    mask = torch.tensor([[1, 0]])
    made = {"x": torch.ones(1, 2, dtype=torch.float64), "attention_mask": mask}
    inputs = RowFeed(["a"], lambda _: made, torch.bfloat16).batch(rows(0))
    assert inputs.kwargs["x"].dtype == torch.bfloat16
    assert inputs.kwargs["attention_mask"].dtype == torch.int64
    assert inputs.mask is mask


def test_a_failing_preprocess_names_the_rows_of_the_caller():
    def preprocess(given):
        raise KeyError(given[0])

    extractor = TorchFeatureExtractor(nn.Identity(), preprocess=preprocess)
    words = r"`preprocess` failed on rows 0, 2: KeyError"
    with pytest.raises(ForwardError, match=words):  # equal texts run once
        extractor.transform(["a", "b", "a"])


@pytest.mark.parametrize("made", [[[1, 2]], None, "text"], ids=str)
def test_preprocess_must_return_something_a_model_takes(made):
    with pytest.raises(TypeError, match=r"`preprocess` must return a tensor.* got"):
        RowFeed(["a"], lambda _: made, None).batch(rows(0))


class Graphs:
    """Stands for a batch of graphs: tensors in an object that moves itself."""

    def __init__(self, graphs):
        self.x = torch.cat([graph["x"] for graph in graphs])
        self.sizes = [len(graph["x"]) for graph in graphs]
        self.moves = []

    def to(self, device):
        self.moves.append(device)
        return self


class OfGraphs(nn.Module):
    def forward(self, batch):
        assert batch.moves
        return torch.stack([part.sum(0) for part in batch.x.split(batch.sizes)])


def test_a_batch_of_graphs_is_passed_on_and_moves_itself():
    rows = [{"x": torch.ones(n, 2)} for n in (3, 1, 2)]
    extractor = TorchFeatureExtractor(OfGraphs(), preprocess=Graphs, batch_size=2)
    np.testing.assert_array_equal(extractor.transform(rows)[:, 0], [3, 1, 2])


def test_graphs_without_a_preprocess_say_what_to_give():
    rows = [SimpleNamespace(x=1), SimpleNamespace(x=2)]
    with pytest.raises(TypeError, match=r"Namespace objects: .*Batch\.from_data_list"):
        TorchFeatureExtractor(OfGraphs()).transform(rows)


def test_what_neither_is_a_tensor_nor_moves_is_refused():
    extractor = TorchFeatureExtractor(nn.Identity(), preprocess=lambda _: object())
    with pytest.raises(TypeError, match="must move to a device by its `to`"):
        extractor.transform(["a"])
