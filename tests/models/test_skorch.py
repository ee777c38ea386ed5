import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from tests.tiny_models import mlp


@pytest.fixture
def net(rng):
    """Return a net that skorch has trained a little."""
    skorch = pytest.importorskip("skorch")
    torch.manual_seed(0)
    net = skorch.NeuralNetRegressor(mlp, max_epochs=1, verbose=0, train_split=None)
    X = rng.normal(size=(20, 4)).astype("float32")
    return net.fit(X, np.zeros((20, 3), "float32"))


def test_a_net_of_skorch_is_its_module(net, rng):
    X = rng.normal(size=(9, 4)).astype("float32")
    Z = TorchFeatureExtractor(net, layer="act").fit_transform(X)
    expected = TorchFeatureExtractor(net.module_, layer="act").transform(X)
    np.testing.assert_array_equal(Z, expected)
    pipe = make_pipeline(TorchFeatureExtractor(net), LogisticRegression())
    y = np.arange(9) % 2
    search = GridSearchCV(
        pipe, {"torchfeatureextractor__layer": ["act", None]}, cv=2, n_jobs=2
    )
    assert search.fit(X, y).predict(X).shape == (9,)
    assert search.best_estimator_[0].model is net


def test_a_net_that_is_not_initialized_says_so():
    skorch = pytest.importorskip("skorch")
    with pytest.raises(ValueError, match="call its `fit` or `initialize` first"):
        TorchFeatureExtractor(skorch.NeuralNet(mlp, nn.MSELoss)).transform([[1.0] * 4])
