"""An index out of bounds is an error of Python, not the end of the process."""

import pytest
import torch

from sklearn_torch_bridge._compiled._index_bounds import _in_bounds
from tests.compiled.test_compiled_model import assert_close, pytestmark, run, tokens
from tests.tiny_models import Tokens

__all__ = ["pytestmark"]


def test_an_index_out_of_bounds_is_an_error_and_the_process_goes_on():
    model = Tokens(n_words=50).eval()
    good, bad = tokens(2, 5), tokens(2, 5)
    bad.kwargs["input_ids"][1, 4] = 50
    run(model, good, ragged=True)
    with pytest.raises(IndexError, match="0 to 50 into a tensor with 50 places"):
        run(model, bad, ragged=True)
    bad.kwargs["input_ids"][1, 4] = -1
    with pytest.raises(IndexError, match="-1 to 8 into a tensor with 50 places"):
        run(model, bad, ragged=True)
    (recorded,) = run(model, good, ragged=True)
    assert_close(recorded[""], model, good)


@pytest.mark.parametrize(
    ("index", "counts_back", "is_right"),
    [
        ([0, 3], False, True),
        ([], False, True),
        ([4], False, False),
        ([-1], False, False),
        ([-4, 3], True, True),
        ([-5], True, False),
    ],
    ids=str,
)
def test_an_index_is_copied_or_refused(index, counts_back, is_right):
    index = torch.tensor(index, dtype=torch.int64)
    if is_right:
        found = _in_bounds(index, 4, counts_back)
        assert torch.equal(found, index)
        assert found is not index
    else:
        with pytest.raises(IndexError, match="into a tensor with 4 places"):
            _in_bounds(index, 4, counts_back)
