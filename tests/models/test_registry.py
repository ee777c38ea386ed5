import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, models

pytestmark = pytest.mark.usefixtures("own_registry")


def test_a_loader_is_called_once():
    names = []

    def load(name):
        names.append(name)
        return nn.Linear(2, int(name))

    models.register("tiny", load)
    for _ in range(2):
        assert TorchFeatureExtractor("tiny:3").transform([[1.0, 2]]).shape == (1, 3)
    assert names == ["3"]


def test_what_a_model_brings_is_used():
    def load(name):
        return models.LoadedModel(
            nn.Identity(),
            preprocess=lambda texts: torch.tensor([[float(len(t))] for t in texts]),
            pooling=lambda hidden, mask: hidden * float(name),
        )

    models.register("length", load)
    Z = TorchFeatureExtractor("length:2").transform(["a", "bcd"])
    assert Z[:, 0].tolist() == [2, 6]


def test_media_that_a_model_brings_take_paths(tmp_path):
    def read(paths):
        return torch.tensor([[float(p.read_text())] for p in paths])

    models.register("file", lambda _: models.LoadedModel(nn.Identity(), media=read))
    (tmp_path / "a").write_text("7")
    Z = TorchFeatureExtractor("file:x").transform([str(tmp_path / "a")])
    assert Z.item() == 7


def test_a_prefix_must_be_a_name():
    with pytest.raises(ValueError, match="must be an identifier, got 'a b'"):
        models.register("a b", nn.Identity)
    with pytest.raises(ValueError, match="must be an identifier, got None"):
        models.register(None, nn.Identity)


def test_a_prefix_is_of_one_process():
    with pytest.raises(ValueError, match="'nobodys' would have to be registered"):
        TorchFeatureExtractor("nobodys:x").transform([[1.0]])
