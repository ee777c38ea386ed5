"""Names of the columns that the estimators return."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from sklearn_torch_bridge import TensorToArray, TorchFeatureExtractor
from tests.tiny_models import Doubling

BOTH = pytest.mark.parametrize(
    "estimator",
    [TensorToArray(), TorchFeatureExtractor(nn.Linear(2, 3))],
    ids=lambda one: type(one).__name__,
)


@BOTH
def test_names_are_learnt_in_fit(estimator):
    with pytest.raises(NotFittedError, match=r"not fitted yet.* Call 'fit' first"):
        estimator.get_feature_names_out()


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        ("blocks.0", ["torchfeatureextractor0", "torchfeatureextractor1"]),
        ("blocks.[01]", [f"blocks.{b}_{i}" for b in (0, 1) for i in (0, 1)]),
    ],
)
def test_columns_are_named_by_layer_where_there_are_several(layer, names):
    extractor = TorchFeatureExtractor(Doubling(3), layer=layer).fit(np.ones((1, 2)))
    assert extractor.get_feature_names_out().tolist() == names


def test_rows_of_several_axes_have_no_names():
    extractor = TorchFeatureExtractor(nn.Identity(), pooling=None)
    extractor.fit(np.ones((2, 3, 4)))
    with pytest.raises(AttributeError, match=r"for rows of shape \(3, 4\)"):
        extractor.get_feature_names_out()


@pytest.mark.parametrize("layer", ["blocks.0", "blocks.[01]"])
def test_names_that_go_in_are_checked_also_with_several_layers(layer):
    extractor = TorchFeatureExtractor(Doubling(3), layer=layer).fit(np.ones((1, 2)))
    with pytest.raises(ValueError, match="input_features should have length equal"):
        extractor.get_feature_names_out(["a", "b", "c"])


@BOTH
def test_a_frame_numbers_its_columns_where_there_was_no_fit(estimator):
    own = clone(estimator).set_output(transform="pandas")
    frame = own.transform(np.ones((4, 2)))
    assert frame.columns.tolist() == list(range(frame.shape[1]))
