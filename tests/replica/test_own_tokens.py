"""What pads a row is left out; which axis is the tokens' is found, not assumed."""

import pytest
import torch

from sklearn_torch_bridge._replica._own_tokens import OwnTokens
from sklearn_torch_bridge._types import Tokens, UnevenBatchError

MASK = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 0]])


def hidden_for(mask):
    return torch.arange(1.0, mask.numel() + 1).reshape(*mask.shape, 1)


def test_the_longest_rows_show_which_axis_is_that_of_the_tokens():
    own = OwnTokens()
    with pytest.raises(UnevenBatchError) as caught:
        own(hidden_for(MASK), MASK)
    assert [part.tolist() for part in caught.value.parts] == [[0], [1, 2]]
    whole = own(hidden_for(MASK[:1]), MASK[:1])
    assert whole.values[:, 0].tolist() == [1, 2, 3]
    rest = own(hidden_for(MASK[1:]), MASK[1:])  # no shorter: it is as it is
    assert rest.values[:, 0].tolist() == [2, 3, 4, 5]
    assert rest.lengths == [2, 2]


def test_an_axis_that_fits_by_chance_is_not_cut():
    own = OwnTokens()
    whole = own(torch.ones(1, 3, 5), MASK[:1])
    assert whole.lengths == [3]
    mask = torch.tensor([[1, 1], [1, 0]])
    with pytest.raises(UnevenBatchError) as caught:
        own(torch.ones(2, 3, 4), mask)
    assert [part.tolist() for part in caught.value.parts] == [[0], [1]]
    with pytest.raises(ValueError, match=r"for 2 tokens the output has shape \(1, 3"):
        own(torch.ones(1, 3, 4), mask[1:])
    with pytest.raises(UnevenBatchError):  # it fits, and a shorter batch did not
        own(torch.ones(3, 3, 5), MASK)


def test_masks_of_any_dtype_and_axes_behind_are_taken():
    own = OwnTokens()
    own(torch.ones(1, 4, 2, 2), torch.ones(1, 4))
    for mask in (MASK, MASK.bool(), MASK.float()):
        found = own(torch.ones(3, 3, 2, 2), mask)
        assert isinstance(found, Tokens)
        assert found.values.shape == (7, 2, 2)
        assert found.lengths == [3, 2, 2]
