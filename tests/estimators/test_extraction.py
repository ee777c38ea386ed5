"""A call is run: each row once, of the right width also without rows."""

import numpy as np
import pytest
import scipy.sparse
import torch

from sklearn_torch_bridge import (
    TorchFeatureExtractor,
)
from tests.tiny_models import (
    Counting,
    cnn,
    mlp,
)


@pytest.fixture
def X(rng):
    return rng.normal(size=(10, 4))


def test_fit_transform_runs_each_row_once_and_fit_one_row(X):
    counting = Counting()
    TorchFeatureExtractor(counting, batch_size=3).fit_transform(X)
    assert counting.tally.sizes == [3, 3, 3, 1]
    TorchFeatureExtractor(counting).fit(X)
    assert counting.tally.sizes == [3, 3, 3, 1, 1]


@pytest.mark.parametrize("fitted", [True, False], ids=["fitted", "not fitted"])
@pytest.mark.parametrize(
    ("module", "empty"),
    [
        (mlp(), np.empty((0, 4))),
        (cnn(), np.empty((0, 3, 6, 7))),
        (mlp(), torch.empty(0, 4)),
        (mlp(), scipy.sparse.csr_array((0, 4))),
    ],
    ids=["table", "images", "tensor", "sparse"],
)
def test_no_rows_give_no_rows_of_the_right_width(module, empty, fitted):
    extractor = TorchFeatureExtractor(module)
    width = extractor.transform(np.ones((1, *empty.shape[1:]))).shape[1]
    if fitted:
        extractor.fit(np.ones((1, *empty.shape[1:])))
    Z = extractor.transform(empty)
    assert Z.shape == (0, width)
    assert Z.dtype == np.float32
