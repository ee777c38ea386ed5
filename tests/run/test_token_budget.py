"""Batches by a budget of tokens or values."""

import numpy as np
import pytest
from torch import nn

from sklearn_torch_bridge import (
    TorchFeatureExtractor,
)
from tests.tiny_models import Counting, Returning, Tally, Tokens

SAME = {"rtol": 1e-5, "atol": 1e-5}


def test_auto_fills_a_budget_of_tokens(tokenizer):
    module = Tokens()
    tally = Tally()

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, input_ids, attention_mask):
            tally(tuple(input_ids.shape))
            return self.inner(input_ids, attention_mask)

    texts = [f"{'word ' * (1 + number % 200)}{number}" for number in range(400)]
    extractor = TorchFeatureExtractor(Watched(), preprocess=tokenizer)
    Z = extractor.set_params(batch_size="auto").transform(texts)
    shapes = tally.sizes
    assert all(rows * tokens <= 1_024 for rows, tokens in shapes)
    assert shapes[0][0] < 8
    assert max(rows for rows, _ in shapes) > 4 * shapes[0][0]
    np.testing.assert_allclose(
        Z, extractor.set_params(batch_size=32).transform(texts), **SAME
    )


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((3_000, 4), 1_024), ((100, 3, 256, 256), 21), ((3, 3_000_000), 1)],
    ids=["narrow", "images", "huge"],
)
def test_auto_fills_a_budget_of_values(shape, rows):
    counting = Counting(Returning(lambda x: x.flatten(1)[:, :1]))
    X = np.broadcast_to(np.float32(1), shape)
    TorchFeatureExtractor(counting, batch_size="auto").transform(X)
    assert counting.tally.sizes[0] == rows
