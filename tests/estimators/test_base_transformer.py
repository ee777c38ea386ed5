"""What both estimators share: no fit is needed, tags, and names of columns."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_torch_bridge import TensorToArray, TorchFeatureExtractor

BOTH = pytest.mark.parametrize(
    "estimator",
    [TensorToArray(), TorchFeatureExtractor(nn.Linear(2, 3))],
    ids=lambda one: type(one).__name__,
)


@BOTH
def test_nothing_has_to_be_fitted(estimator):
    check_is_fitted(estimator)
    tags = get_tags(estimator)
    assert not tags.requires_fit
    assert tags.input_tags.sparse
    assert tags.input_tags.three_d_array
    assert estimator.transform(np.ones((4, 2))).shape[0] == 4


@BOTH
def test_a_frame_is_made_where_the_configuration_asks_for_it(estimator):
    with config_context(transform_output="pandas"):
        frame = estimator.transform(np.ones((4, 2)))
    assert type(frame).__module__.startswith("pandas")
    assert len(frame) == 4
