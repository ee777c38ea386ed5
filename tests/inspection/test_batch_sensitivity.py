import pandas as pd
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.inspection import batch_sensitivity
from tests.tiny_models import mlp


class Looking(nn.Module):
    """Lets rows see each other."""

    def forward(self, x):
        return x - x.mean(0)


def test_rows_that_see_each_other_are_found(rng):
    X = rng.normal(size=(20, 4))
    X[7] = 100  # alone it becomes zero
    found = batch_sensitivity(TorchFeatureExtractor(Looking()), X, random_state=0)
    assert found.largest > 1
    assert not found.is_exact


def test_rounding_is_all_there_is_of_a_plain_model(rng):
    X = rng.normal(size=(40, 4)).astype("float32")
    found = batch_sensitivity(
        TorchFeatureExtractor(mlp()), X, batch_sizes=[3, 40], random_state=0
    )
    assert found.batch_sizes == (3, 40)
    assert found.largest <= 1e-5
    assert found.difference.shape == found.worst_row.shape == (2,)


def test_the_worst_row_is_named_in_the_order_of_the_caller(rng):
    class Odd(nn.Module):
        def forward(self, x):
            alone = torch.full_like(x, len(x) == 1)
            return torch.where(x[:, :1] > 50, alone, x)

    X = rng.normal(size=(20, 4))
    X[13] = 100
    found = batch_sensitivity(TorchFeatureExtractor(Odd()), X, random_state=0)
    assert found.worst_row.tolist() == [13, 13, 13]


@pytest.mark.parametrize("seed", [0, 1])
def test_texts_of_many_lengths_agree(minilm_path, texts, seed):
    extractor = TorchFeatureExtractor(f"hf:{minilm_path}")
    for X in (texts, pd.Series(texts), pd.DataFrame({"text": texts})):
        found = batch_sensitivity(extractor, X, random_state=seed)
        assert 0 < found.largest <= 1e-5


def test_frames_and_columns_are_shuffled_as_a_whole(rng):
    frame = pd.DataFrame(rng.normal(size=(9, 2)), columns=["a", "b"])
    assert batch_sensitivity(TorchFeatureExtractor(nn.Identity()), frame).is_exact
    columns = {"input": frame.to_numpy()}
    assert batch_sensitivity(TorchFeatureExtractor(nn.Identity()), columns).is_exact


def test_neither_cache_nor_extractor_is_touched(rng, tmp_path):
    extractor = TorchFeatureExtractor(Looking(), cache=tmp_path / "e.db", batch_size=5)
    batch_sensitivity(extractor, rng.normal(size=(9, 2)))
    assert not (tmp_path / "e.db").exists()
    assert extractor.batch_size == 5


def test_one_row_has_no_company():
    with pytest.raises(ValueError, match="at least two rows, got 1"):
        batch_sensitivity(TorchFeatureExtractor(nn.Identity()), [[1.0]])


def test_a_batch_has_rows():
    with pytest.raises(ValueError, match="`batch_sizes` must be an int of at least 1"):
        batch_sensitivity(
            TorchFeatureExtractor(nn.Identity()), [[1.0], [2.0]], batch_sizes=[0]
        )
