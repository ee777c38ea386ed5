"""Which axes have the tokens, and what a pooling with a name gets."""

import pytest
import torch

from sklearn_torch_bridge._replica._tokens_in_values import (
    ONE_LENGTH,
    changed_axes,
    needs_tokens,
    with_tokens,
)
from sklearn_torch_bridge._types import UnevenBatchError
from sklearn_torch_bridge.pooling import POOLINGS

MASK = torch.tensor([[True] * 4, [True, True, False, False]])


def given(pool, shape, axes, is_fixed=bool):
    hidden = torch.zeros(2, *shape)
    return tuple(with_tokens(POOLINGS[pool], hidden, MASK, axes, is_fixed).shape)


def test_axes_that_change_with_the_length_but_for_the_rows():
    assert changed_axes((2, 4, 4, 3), (1, 2, 2, 3)) == (1, 2)
    assert changed_axes((2, 4), (2, 4)) == ()
    assert changed_axes((2, 4), (2, 4, 1)) is None


def test_only_names_need_tokens_and_vectors_only_where_they_are_as_wide():
    mean = POOLINGS["mean"]
    assert needs_tokens(mean, (2, 5, 3), MASK)
    assert needs_tokens(mean, (2, 4), MASK)
    assert not needs_tokens(mean, (2, 5), MASK)
    assert not needs_tokens(mean, (2, 5, 3), None)
    assert not needs_tokens(None, (2, 5, 3), MASK)
    assert not needs_tokens(lambda hidden, _: hidden, (2, 5, 3), MASK)


def test_tokens_come_second_where_a_mask_is_used():
    assert given("mean", (5, 4), (2,)) == (2, 4, 5)
    assert given("mean", (4, 5), (1,)) == (2, 4, 5)
    assert given("last", (4, 5), ONE_LENGTH) == (2, 4, 5)
    assert given("mean", (3, 5), (1,)) == (2, 3, 5)  # the pooling itself refuses it


@pytest.mark.parametrize("axes", [ONE_LENGTH, (), (1, 2), (2,)], ids=str)
def test_channels_as_many_as_tokens_by_chance_are_refused(axes):
    shape = (4, 2) if axes == (2,) else (4, 4)  # the second: tokens, but half as many
    with pytest.raises(ValueError, match="must find one axis of tokens"):
        given("cls", shape, axes)


@pytest.mark.parametrize(
    ("pool", "shape", "axes"),
    [
        ("flatten", (4, 5), (1,)),
        ("flatten", (5, 2), (2,)),
        ("gap", (4, 5), (1,)),
        ("gmp", (2, 5), (1,)),
        ("mean", (4, 2, 2), (1,)),
        ("mean", (4,), (1,)),
    ],
    ids=str,
)
def test_vectors_as_wide_as_a_row_is_long_are_refused(pool, shape, axes):
    with pytest.raises(ValueError, match=r"vectors of one width.*Take 'mean'"):
        given(pool, shape, axes)
    if len(shape) > 1 and pool != "mean":
        assert given(pool, shape, axes, lambda: True) == (2, *shape)


@pytest.mark.parametrize(("pool", "shape"), [("gap", (5, 4)), ("max", (5, 2, 2))])
def test_rows_of_one_length_share_a_batch_where_no_mask_is_used(pool, shape):
    with pytest.raises(UnevenBatchError):
        given(pool, shape, (2,))
    assert given(pool, shape, (2,), lambda: True) == (2, *shape)
    assert given(pool, shape, ()) == (2, *shape)
