"""Loading a model leaves the caller's random generators to the caller."""

import random
import threading

import numpy as np
import pytest
import safetensors.torch
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from torch import nn

from sklearn_torch_bridge.models._load_model import load_model
from sklearn_torch_bridge.models._own_draws import OwnDraws
from tests import families

DRAWS = {
    "linear": lambda: nn.Linear(2, 2),
    "lstm": lambda: nn.LSTM(2, 2),
    "convolution": lambda: nn.Conv2d(1, 1, 1),
    "embedding": lambda: nn.Embedding(3, 2),
    "attention": lambda: nn.MultiheadAttention(2, 1),
    "truncated": lambda: nn.init.trunc_normal_(torch.empty(3)),
    "orthogonal": lambda: nn.init.orthogonal_(torch.empty(3, 3)),
    "numbers": lambda: torch.randn(2) + torch.rand(2) + torch.randint(3, (2,)),
    "order": lambda: torch.randperm(3),
    "like": lambda: torch.rand_like(torch.ones(2)),
    "choice": lambda: torch.multinomial(torch.ones(3), 2),
    "dropout": lambda: nn.functional.dropout(torch.ones(3)),
    "meta": lambda: nn.Linear(2, 2, device="meta"),
}


def states():
    numpy = np.random.get_state()  # noqa: NPY002 - the one that others share
    return torch.get_rng_state().tolist(), numpy[1].tolist(), random.getstate()


@pytest.mark.parametrize("name", DRAWS)
def test_what_is_drawn_is_not_the_callers(name):
    before = states()
    with OwnDraws():
        DRAWS[name]()
    assert states() == before


def test_what_other_threads_draw_is_not_taken_back():
    torch.manual_seed(0)
    expected = torch.rand(2).tolist()
    torch.manual_seed(0)
    found = []
    with OwnDraws():
        nn.Linear(2, 2)
        other = threading.Thread(target=lambda: found.append(torch.rand(1).item()))
        other.start()
        other.join()
        nn.Linear(2, 2)
    found.append(torch.rand(1).item())
    assert found == expected


def save_with_dense(folder):
    config, _ = families.TEXTS["bert"]
    families.folder_with(folder, config, families.make_tokenizer())
    parts = modules.Transformer(str(folder / "model")), modules.Pooling(16)
    model = SentenceTransformer(modules=[*parts, modules.Dense(16, 8)], device="cpu")
    model.save(str(folder / "dense"))
    return f"st:{folder}/dense"


def save_without_pooler(folder):
    config, _ = families.TEXTS["bert"]
    families.folder_with(folder, config, families.make_tokenizer())
    file = folder / "model" / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    kept = {name: weights[name] for name in weights if "pooler" not in name}
    safetensors.torch.save_file(kept, file, metadata={"format": "pt"})
    return f"hf:{folder}/model"


@pytest.mark.parametrize("save", [save_with_dense, save_without_pooler])
def test_loading_a_string_draws_nothing_of_the_callers(save, tmp_path):
    name = save(tmp_path)
    before = states()
    load_model(name)
    assert states() == before
