"""What is said of a failed batch: its row, submodule, layer, and a way out."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import (
    ForwardError,
    OutputError,
    TorchFeatureExtractor,
)
from tests.tiny_models import (
    Failing,
    Returning,
    mlp,
)


@pytest.fixture
def X(rng):
    return rng.normal(size=(10, 4))


def test_a_failing_batch_names_its_row_the_submodule_and_the_layer():
    module = nn.Sequential(nn.Identity(), nn.Sequential(Failing(40)), nn.Identity())
    X = np.arange(64.0)[:, None]
    words = r"failed on row 41, in submodule '1.0' on the way to '2': .*: boom"
    with pytest.raises(ForwardError, match=words) as caught:
        TorchFeatureExtractor(module, layer="2").transform(X)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_integers_for_a_model_of_floats_get_a_hint():
    with pytest.raises(
        ForwardError, match=r"`X` holds torch.int64.*astype\('float32'\)"
    ):
        TorchFeatureExtractor(mlp()).transform([[1, 2, 3, 4]])


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(4, 2),
        nn.Sequential(nn.Linear(4, 2)),
        nn.Softmax(1),
        nn.GELU(),
        Returning(lambda x: x @ torch.ones(4, 2)),
        Returning(lambda x: x.mean(1)),
    ],
    ids=["linear", "nested", "softmax", "gelu", "product", "mean"],
)
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_integers_for_whatever_takes_floats_get_the_hint(module, dtype):
    X = np.ones((3, 4), dtype)
    with pytest.raises(ForwardError, match=r"`X` holds .*astype\('float32'\)"):
        TorchFeatureExtractor(module).transform(X)


@pytest.mark.parametrize(
    "module",
    [
        nn.Embedding(9, 2),
        nn.Sequential(nn.Embedding(9, 2)),
        nn.EmbeddingBag(9, 2),
        Returning(lambda x: torch.ones(9, 2)[x]),
        Returning(lambda x: torch.ones(3, 9).gather(1, x)),
        Returning(nn.functional.one_hot),
    ],
    ids=["embedding", "nested", "bag", "index", "gather", "one hot"],
)
@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["array", "tensor"])
def test_floats_for_whatever_takes_ids_get_the_hint(module, make):
    X = make([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]])
    with pytest.raises(ForwardError, match=r"`X` holds .*float.*astype\('int64'\)"):
        TorchFeatureExtractor(module).transform(X)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool"])
def test_short_integers_for_an_embedding_get_the_hint(dtype):
    X = np.ones((3, 4), dtype)
    with pytest.raises(ForwardError, match=r"`X` holds .*astype\('int64'\)") as caught:
        TorchFeatureExtractor(nn.Embedding(9, 2)).transform(X)
    assert "float32" not in str(caught.value)


def test_a_column_of_the_wrong_kind_is_named():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(9, 2)

        def forward(self, weights, ids):
            return self.words(ids) * weights[..., None]

    X = {"ids": np.ones((3, 4)), "weights": np.ones((3, 4))}
    with pytest.raises(ForwardError, match=r"'ids' holds .*astype\('int64'\)"):
        TorchFeatureExtractor(Words()).transform(X)


def test_a_failure_of_integers_for_another_reason_gets_no_hint():
    module = Returning(lambda x: x.reshape(7, 11))
    with pytest.raises(ForwardError, match=r"invalid for input of size 4$"):
        TorchFeatureExtractor(module).transform(np.ones((3, 4), int))


def test_errors_in_reading_say_which_layer_and_rows(X):
    module = nn.Sequential(Returning(lambda x: (x, x)), Returning(lambda pair: pair[0]))
    with pytest.raises(OutputError, match="choose one") as caught:
        TorchFeatureExtractor(module, layer="0", batch_size=4).transform(X)
    assert caught.value.__notes__ == ["While reading layer '0' of rows 0 to 3."]
