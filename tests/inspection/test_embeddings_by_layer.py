import numpy as np
import pytest
import torch

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.inspection._embeddings_by_layer import embeddings_by_layer
from tests.tiny_models import mlp


def test_each_layer_is_what_it_is_alone(task):
    X, _ = task
    extractor = TorchFeatureExtractor(mlp(), layer=["second", "first"])
    found = embeddings_by_layer(extractor, X)
    assert list(found) == ["second", "first"]
    for layer, Z in found.items():
        alone = TorchFeatureExtractor(mlp(), layer=layer).transform(X)
        np.testing.assert_allclose(Z, alone, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "name"), [(None, "output"), ("first", "first"), (["act"], "act")]
)
def test_one_layer(task, layer, name):
    extractor = TorchFeatureExtractor(mlp(), layer=layer)
    found = embeddings_by_layer(extractor.set_output(transform="pandas"), task[0])
    assert list(found) == [name]
    assert isinstance(found[name], np.ndarray)


def test_several_axes_are_an_error(rng):
    X = rng.normal(size=(3, 3, 6, 6)).astype("float32")
    extractor = TorchFeatureExtractor(torch.nn.Conv2d(3, 2, 3), pooling=None)
    with pytest.raises(ValueError, match=r"`pooling` of the extractor must give one"):
        embeddings_by_layer(extractor, X)
