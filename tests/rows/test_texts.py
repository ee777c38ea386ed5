"""Texts: refused or left out, run once, tokenised once, padded per batch."""

import threading
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import (
    TorchFeatureExtractor,
)
from sklearn_torch_bridge._rows import _texts
from sklearn_torch_bridge._rows._texts import TEXTS, TokenFeed
from sklearn_torch_bridge.models import AcceptedInputs, Maximum, longest_text
from tests.rows import given_rows
from tests.tiny_models import Letters, Tokens


class Kwargs(nn.Module):
    def forward(self, **given):
        return given


def test_batches_equal_those_of_the_tokenizer(tokenizer, texts):
    feed = TokenFeed(texts, tokenizer, AcceptedInputs(Kwargs()))
    expected = tokenizer(texts, padding=True, return_tensors="pt")
    given = feed.batch(np.arange(len(texts)))
    assert set(given.kwargs) == set(expected)
    for name, value in expected.items():
        assert torch.equal(given.kwargs[name], value), name
    assert torch.equal(given.mask, expected["attention_mask"].bool())
    assert feed.lengths.tolist() == expected["attention_mask"].sum(1).tolist()


def test_texts_beyond_the_chunk_of_a_call_stay_in_order(tokenizer):
    texts = [f"{number}" * (1 + number % 3) for number in range(2_345)]
    feed = TokenFeed(texts, tokenizer, AcceptedInputs(Kwargs()))
    rows = np.array([2_344, 0, 999, 1_000, 1_001])
    expected = tokenizer([texts[row] for row in rows], padding=True)["input_ids"]
    assert feed.batch(rows).kwargs["input_ids"].tolist() == expected


def test_long_texts_are_cut_and_their_own_lengths_are_known(tokenizer):
    texts, most = ["word " * 2_000, "word"], longest_text(Kwargs(), tokenizer)
    feed = TokenFeed(texts, tokenizer, AcceptedInputs(Kwargs()), maximum=most)
    assert feed.lengths.tolist() == [tokenizer.model_max_length, 3]
    assert feed.full_lengths.tolist() == [2_002, 3]
    assert feed.maximum == Maximum(512, "tokens", "tokenizer")


def test_padding_goes_to_the_right_and_needs_no_padding_token():
    feed = TokenFeed(["abc", "d"], Letters(), AcceptedInputs(Kwargs()))
    given = feed.batch(np.arange(2))
    assert given.kwargs["input_ids"].tolist() == [[97, 98, 99], [100, 9, 9]]
    assert given.mask.tolist() == [[True, True, True], [True, False, False]]


def test_a_model_gets_the_arguments_it_has_names_for(tokenizer):
    """BERT's tokenizer gives token_type_ids, which this model does not take."""
    given = TokenFeed(["a b"], tokenizer, AcceptedInputs(Tokens())).batch(np.arange(1))
    assert list(given.kwargs) == ["input_ids", "attention_mask"]


def test_a_model_is_given_the_mask_even_if_the_tokenizer_makes_none():
    given = TokenFeed(["ab", "c"], Letters(), AcceptedInputs(Tokens())).batch(
        np.arange(2)
    )
    assert given.kwargs["attention_mask"].tolist() == [[1, 1], [1, 0]]


def test_a_model_of_one_argument_is_given_the_ids():
    given = TokenFeed(["ab"], Letters(), AcceptedInputs(nn.Embedding(200, 2))).batch(
        np.arange(1)
    )
    assert [ids.tolist() for ids in given.args] == [[[97, 98]]]
    assert given.kwargs == {}


def test_a_text_without_tokens_is_named():
    extractor = TorchFeatureExtractor(Kwargs(), preprocess=Letters())
    with pytest.raises(ValueError, match="at least one token, got none in rows 1, 3"):
        extractor.transform(["a", "", "a", ""])


def test_keys_that_are_not_one_number_a_token_are_refused():
    class Pieces(Letters):
        def __call__(self, texts, *, truncation):
            return {"input_ids": [[1, 2]], "pieces": [[1]]}

    with pytest.raises(ValueError, match="'pieces' has another length"):
        TokenFeed(["a"], Pieces(), AcceptedInputs(Kwargs()))


def test_two_threads_never_are_in_one_tokenizer_together():
    inside = SimpleNamespace(now=0, most=0)
    barrier = threading.Barrier(4)

    class Watched(Letters):
        def __call__(self, texts, *, truncation):
            inside.now += 1
            inside.most = max(inside.most, inside.now)
            result = super().__call__(texts, truncation=truncation)
            inside.now -= 1
            return result

    tokenizer = Watched()

    def work():
        barrier.wait(10)
        TokenFeed(["abc"] * 20_000, tokenizer, AcceptedInputs(Kwargs()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside.most == 1


@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        (["a", None], ValueError, "row 1 is missing: None. Drop or fill"),
        (["a", float("nan"), np.nan], ValueError, r"row 1 is missing: nan \(2 such"),
        (pd.Series(["a", pd.NA]), ValueError, "row 1 is missing"),
        (pd.Series(["a", None], dtype="str"), ValueError, "row 1 is missing"),
        (pl.Series(["a", None]), ValueError, "row 1 is missing: None"),
        (["a", 3], TypeError, "row 1 is 3"),
        (["a", b"b"], TypeError, "row 1 is b'b'"),
    ],
    ids=["None", "nan", "NA", "pandas str", "polars", "number", "bytes"],
)
def test_a_row_that_is_no_text_is_named(X, error, words):
    with pytest.raises(error, match=words):
        TEXTS.check(given_rows(X))


def test_equal_texts_are_kept_once():
    assert _texts._distinct(["b", "a", "b"])[0] == ["b", "a"]
    assert _texts._distinct(["b", "a", "b"])[1].tolist() == [0, 1, 0]
    assert _texts._distinct(["b", "a"]) == (["b", "a"], None)
