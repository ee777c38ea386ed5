"""Shapes for another number of rows, found without the model."""

import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica._rows_flow import RowsFlow
from sklearn_torch_bridge._torch_private import DispatchMode
from sklearn_torch_bridge._types import Inputs
from tests.tiny_models import Returning


class Following(DispatchMode):
    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        is_in_place = func._schema.name.endswith("_")
        written = [args[0]] if is_in_place else []
        self.flow.follow(func, args, kwargs or {}, written, result)
        return result


def other_shape(module, x):
    flow = RowsFlow(Inputs((x,)), len(x))
    with torch.inference_mode(), Following(flow):
        value = module.eval()(x)
    value = value[0] if isinstance(value, tuple) else value
    return flow.shape_of(value)


def relu_of_a_copy(x):
    own = torch.zeros(x.shape)
    own.copy_(x)
    return own.relu_()


CASES = [
    (nn.Identity(), (2, 4, 6)),
    (nn.Linear(6, 3), (2, 4, 3)),
    (nn.Sequential(nn.Flatten(), nn.Linear(24, 5)), (2, 5)),
    (nn.Sequential(nn.Conv1d(4, 3, 1), nn.BatchNorm1d(3)), (2, 3, 6)),
    (nn.GRU(6, 3, batch_first=True), (2, 4, 3)),
    (nn.LSTM(6, 3, bidirectional=True, batch_first=True), (2, 4, 6)),
    (nn.LSTM(6, 3, 2, bias=False, batch_first=True), (2, 4, 3)),
    (nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), (2, 4, 6)),
    (Returning(lambda x: x.transpose(0, 1)), (4, 2, 6)),
    (Returning(lambda x: (2 * x).relu_()), (2, 4, 6)),
    (Returning(lambda x: x[:, :1].expand(-1, 7, -1)), (2, 7, 6)),
    (Returning(lambda x: x.transpose(0, 1).reshape(5, 24)), (2, 24)),
    # Nothing of these follows the rows, or it cannot be seen.
    (Returning(lambda x: x.mean(0)), None),
    (nn.LSTM(6, 5, batch_first=True), None),  # a state of zeros, (1, 5, 5)
    (Returning(relu_of_a_copy), None),
    (Returning(lambda x: torch.stack([*x])), None),
    (Returning(lambda x: torch.ones(5, 6) + x.mean()), None),
    (Returning(lambda x: x.mean((0, 1)).expand(5, 6)), None),
    (Returning(lambda x: x.reshape(len(x) * 2, 2, 6)), None),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_batch_is_followed_beside_two_rows(case):
    module, expected = CASES[case]
    torch.manual_seed(0)
    assert other_shape(module, torch.ones(5, 4, 6)) == expected


def test_two_rows_are_followed_beside_three():
    assert other_shape(nn.Linear(6, 3), torch.ones(2, 6)) == (3, 3)


def test_what_is_not_of_the_batch_is_not_written_twice():
    counter = torch.zeros(1)

    def forward(x):
        counter.add_(x.sum())
        return x * counter

    assert other_shape(Returning(forward), torch.ones(5, 2)) == (2, 2)
    assert counter.item() == 10


def test_rows_of_one_axis_are_followed_as_well():
    assert other_shape(nn.Embedding(9, 3), torch.zeros(5, dtype=torch.long)) == (2, 3)


def test_half_as_many_tokens_are_followed_where_there_is_a_mask():
    x = torch.ones(5, 8, 6)
    for n_tokens, n_others in [(8, 4), (3, 6), (0, 0)]:
        own = x[:, :n_tokens]
        flow = RowsFlow(Inputs((own,), mask=own[..., 0] > 0), 5)
        with torch.inference_mode(), Following(flow):
            value = nn.Linear(6, 3)(own).transpose(1, 2)
        if n_tokens:
            assert flow.shape_of(value) == (2, 3, n_others)
