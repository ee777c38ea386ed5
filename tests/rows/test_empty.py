"""No rows: refused by `fit`, of the width of a made-up row elsewhere."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._rows._empty import EMPTY
from tests.rows import given_rows
from tests.tiny_models import mlp

NOTHING = {
    "list": [],
    "Series": pd.Series([], dtype=object),
    "array": np.zeros(0),
    "tensor": torch.zeros(0),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_is_known_of_no_rows(name):
    X = NOTHING[name]
    assert EMPTY.recognises(given_rows(X))
    extractor = TorchFeatureExtractor(mlp())
    with pytest.raises(ValueError, match="0 sample"):
        extractor.fit(X)
    with pytest.raises(ValueError, match="call `fit` first"):
        extractor.transform(X)
    width = extractor.fit(np.ones((1, 4))).transform(X).shape[1]
    assert width == mlp()(torch.ones(1, 4)).shape[1]


@pytest.mark.parametrize(
    "X", [np.zeros((0, 3)), torch.zeros(0, 3), {"input": np.zeros((0, 3))}], ids=type
)
def test_no_rows_of_a_known_width_make_one_up(X):
    assert not EMPTY.recognises(given_rows(X))
    assert TorchFeatureExtractor(nn.Linear(3, 5)).transform(X).shape == (0, 5)


def test_no_texts_have_the_width_of_a_made_up_text(minilm, tokenizer):
    extractor = TorchFeatureExtractor(minilm, preprocess=tokenizer)
    assert extractor.transform([]).shape == (0, 384)


def test_a_column_without_rows_is_no_rows_for_a_preprocess(minilm, tokenizer):
    X = np.empty((0, 1), object)
    assert TorchFeatureExtractor(minilm, preprocess=tokenizer).transform(X).shape == (
        0,
        384,
    )
    extractor = TorchFeatureExtractor(nn.Identity(), preprocess=torch.tensor)
    with pytest.raises(ValueError, match="call `fit` first"):
        extractor.transform(X)
