"""Values of texts that have tokens on any axis, or as many channels by chance."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from tests.tiny_models import Tally

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
TEXTS = ["one two three four", "one", "two three", "one two three four"]
N_TOKENS = 6  # of the longest, with those that begin and end it
NAMED = ("auto", "mean", "max", "cls", "last", "gap", "gmp", "flatten")


class Words(nn.Module):
    """Embeds ids, and gives what `make` makes of that."""

    def __init__(self, make, n_features=N_TOKENS):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(30_522, 5)
        self.conv = nn.Conv1d(5, n_features, 1)
        self.make = make
        self.tally = Tally()

    def forward(self, input_ids, attention_mask):
        self.tally(len(input_ids))
        hidden = self.conv(self.words(input_ids).transpose(1, 2))
        return self.make(hidden, attention_mask)


LAYOUTS = {
    "channels first": lambda hidden, _: hidden,
    "tokens first": lambda hidden, _: hidden.transpose(1, 2),
    "row by row": lambda hidden, _: torch.stack([*hidden]),
}
OF_TOKENS = {
    "auto": lambda tokens: tokens.mean(1),
    "mean": lambda tokens: tokens.mean(1),
    "max": lambda tokens: tokens.amax(1),
    "cls": lambda tokens: tokens[:, 0],
    "last": lambda tokens: tokens[:, -1],
}


def expected(module, tokenizer, text, reduce):
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        return reduce(module.conv(module.words(ids).transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize("pooling", OF_TOKENS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n_features", [4, N_TOKENS])
def test_a_mask_goes_along_the_axis_of_the_tokens(
    tokenizer, layout, pooling, n_features
):
    for texts in (TEXTS, TEXTS[:1], TEXTS[::3]):
        module = Words(LAYOUTS[layout], n_features)
        extractor = TorchFeatureExtractor(module, preprocess=tokenizer, pooling=pooling)
        rows = [expected(module, tokenizer, one, OF_TOKENS[pooling]) for one in texts]
        np.testing.assert_allclose(extractor.transform(texts), torch.cat(rows), **CLOSE)


@pytest.mark.parametrize("pooling", ["gap", "gmp"])
def test_what_takes_no_mask_gets_rows_of_one_length(tokenizer, pooling):
    reduce = OF_TOKENS["mean" if pooling == "gap" else "max"]
    module = Words(LAYOUTS["channels first"])
    extractor = TorchFeatureExtractor(module, preprocess=tokenizer, pooling=pooling)
    rows = [expected(module, tokenizer, one, reduce) for one in TEXTS]
    np.testing.assert_allclose(extractor.transform(TEXTS), torch.cat(rows), **CLOSE)


REFUSED = {
    "flatten": ("flatten", LAYOUTS["tokens first"]),
    "flatten of channels first": ("flatten", LAYOUTS["channels first"]),
    "gap": ("gap", LAYOUTS["tokens first"]),
    "gmp": ("gmp", lambda hidden, _: hidden.transpose(1, 2)[:, ::2]),
    "one number a token": ("mean", lambda hidden, _: hidden.mean(1)),
    "weights": ("mean", lambda hidden, _: hidden.transpose(1, 2) @ hidden),
    "halved": ("max", lambda hidden, _: hidden[:, :, ::2]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_no_row_depends_in_width_on_its_length_whatever_the_batch(tokenizer, kind):
    pooling, make = REFUSED[kind]
    for texts in (TEXTS, TEXTS[:1], TEXTS[1:2], TEXTS[::3]):
        extractor = TorchFeatureExtractor(
            Words(make), preprocess=tokenizer, pooling=pooling
        )
        with pytest.raises(ValueError, match=r"`(pooling|mask)` must"):
            extractor.transform(texts)


def test_vectors_are_vectors_whatever_their_width(tokenizer):
    for n_features in (4, N_TOKENS):
        for pooling in NAMED:
            module = Words(lambda hidden, _: hidden[:, :, 0], n_features)
            extractor = TorchFeatureExtractor(
                module, preprocess=tokenizer, pooling=pooling
            )
            assert extractor.transform(TEXTS).shape == (4, n_features)


def test_rows_padded_to_one_length_may_be_flattened(tokenizer):
    def fixed(texts):
        given = tokenizer(
            texts, padding="max_length", max_length=8, return_tensors="pt"
        )
        return {name: given[name] for name in ("input_ids", "attention_mask")}

    module = Words(LAYOUTS["channels first"], 3)
    extractor = TorchFeatureExtractor(module, preprocess=fixed, pooling="flatten")
    Z = extractor.transform(TEXTS)
    assert Z.shape == (4, 24)
    np.testing.assert_allclose(extractor.transform(TEXTS[1:2]), Z[1:2], **CLOSE)


def test_ragged_rows_are_not_flattened_with_their_padding():
    class Masked(nn.Module):
        def forward(self, x, attention_mask):
            return x * 2

    X = [np.ones((size, 3), np.float32) for size in (2, 4, 4)]
    for pooling in ("flatten", "gap"):
        extractor = TorchFeatureExtractor(Masked(), pooling=pooling)
        with pytest.raises(ValueError, match="vectors of one width"):
            extractor.transform(X)
    even = TorchFeatureExtractor(Masked(), pooling="flatten").transform(np.stack(X[1:]))
    assert even.shape == (2, 12)


@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS[::3]], ids=["one", "one length"])
def test_a_model_whose_operations_show_its_tokens_runs_once(tokenizer, texts):
    for layout, most in [("tokens first", 2), ("row by row", 4)]:
        module = Words(LAYOUTS[layout], 4)
        for _ in range(2):
            extractor = TorchFeatureExtractor(module, preprocess=tokenizer)
            extractor.transform(texts)
        assert 2 <= len(module.tally.sizes) <= most
