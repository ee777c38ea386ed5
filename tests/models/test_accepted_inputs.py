"""What a model takes is found on its forward, whatever that is."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.models import AcceptedInputs
from tests.tiny_models import Items, Tokens, mlp


class Named(nn.Module):
    def forward(self, x, attention_mask=None):
        return x


class Needing(nn.Module):
    def forward(self, x, attention_mask):
        return x


class Any(nn.Module):
    def forward(self, x, **others):
        return x


class AnyWithMask(nn.Module):
    def forward(self, x, src_key_padding_mask=None, **others):
        return x


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of scripting
        return torch.jit.script(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("model", "mask", "needed", "names"),
    [
        (mlp(), None, False, {"x"}),
        (Named(), "attention_mask", False, {"x", "attention_mask"}),
        (Needing(), "attention_mask", True, {"x", "attention_mask"}),
        (Any(), None, False, None),
        (AnyWithMask(), "src_key_padding_mask", False, None),
        (scripted(), None, False, {"input"}),
    ],
    ids=["plain", "mask", "needs it", "any", "any with mask", "scripted"],
)
def test_masks_and_names_are_found(model, mask, needed, names):
    accepts = AcceptedInputs(model)
    assert accepts.mask == mask
    assert accepts.needs_mask == needed
    assert accepts.names == (names if names is None else frozenset(accepts.parameters))
    if names and model.__class__ in (Named, Needing):
        assert accepts.names == names


def test_floats_are_cast_to_the_dtype_of_the_weights():
    assert AcceptedInputs(nn.Linear(2, 2).half()).dtype == torch.float16
    assert AcceptedInputs(nn.Identity()).dtype == torch.get_default_dtype()


def test_a_forward_that_was_replaced_is_seen_by_the_next_call():
    model = Tokens()
    assert AcceptedInputs(model).mask == "attention_mask"
    model.forward = lambda input_ids: input_ids
    assert AcceptedInputs(model).mask is None


class Configured(nn.Module):
    def __init__(self, config, padding_idx=None):
        super().__init__()
        self.config = SimpleNamespace(**config)
        self.words = nn.Embedding(9, 2, padding_idx=padding_idx)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (Configured({"pad_token_id": 3}, padding_idx=1), 3),
        (Configured({"text_config": SimpleNamespace(pad_token_id=4)}), 4),
        (Configured({"pad_token_id": None}, padding_idx=5), 5),
        (Configured({"pad_token_id": -1}), 0),
        (nn.Sequential(nn.Embedding(9, 2), nn.Embedding(9, 2, padding_idx=2)), 2),
        (nn.Linear(2, 2), 0),
    ],
    ids=["config", "config of texts", "embedding", "none of either", "parts", "linear"],
)
def test_ids_are_padded_with_what_the_model_takes_for_padding(module, expected):
    assert AcceptedInputs(module).padding_id == expected


class OneMapping(nn.Module):
    """Takes a batch as one mapping, and reads it itself."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, batch):
        return batch["a"] * self.scale + batch["b"]


class Passing(nn.Module):
    """Hands it on: only its annotation says what it is."""

    def __init__(self):
        super().__init__()
        self.inner = OneMapping()

    def forward(self, features: dict[str, torch.Tensor], **options):
        return self.inner(features)


class ByName(nn.Module):
    def forward(self, a, b=0):
        return 2 * a + b


@pytest.mark.parametrize("cls", [OneMapping, Passing, ByName])
def test_columns_are_one_mapping_where_the_model_takes_one(cls, rng):
    X = {name: rng.normal(size=(5, 3)).astype("float32") for name in "ab"}
    Z = TorchFeatureExtractor(cls(), batch_size=2).fit(X).transform(X)
    np.testing.assert_allclose(Z, 2 * X["a"] + X["b"], rtol=1e-5)

    def preprocess(rows):
        return {name: torch.ones(len(rows), 3) for name in "ab"}

    made = TorchFeatureExtractor(cls(), preprocess=preprocess).transform(["x", "y"])
    np.testing.assert_array_equal(made, np.full((2, 3), 3))

    items = [{name: X[name][row] for name in "ab"} for row in range(5)]
    of_items = TorchFeatureExtractor(cls()).transform(Items(items))
    np.testing.assert_array_equal(of_items, Z)


@pytest.mark.parametrize(
    ("cls", "names"), [(OneMapping, ("c",)), (ByName, ("x",)), (ByName, ("a", "c"))]
)
def test_names_that_nothing_explains_are_refused(cls, names):
    X = {name: np.ones((2, 3)) for name in names}
    with pytest.raises(ValueError, match=f"column '{names[-1]}', and `model` takes"):
        TorchFeatureExtractor(cls()).transform(X)
