"""Ids are cut as their tokenizer cuts them, bit for bit, and counted before."""

import numpy as np
import pytest
import transformers as t
from tokenizers import Tokenizer, models, pre_tokenizers

from sklearn_torch_bridge._rows._cut_texts import encode_texts, shortest
from tests.families import make_tokenizer
from tests.tiny_models import Letters

TEXTS = ["a b c d e f g h i", "a", "[CLS] a b [SEP] c d e f", "p o n m l k", ""]


def without_special():
    inner = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))  # noqa: S106 - no password
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return t.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")  # noqa: S106 - no password


class FromEnd(t.PreTrainedTokenizerFast):
    """Cuts in a way of its own: with the special token at the end."""

    def __call__(self, texts, *, truncation=False, max_length=None, **options):
        made = super().__call__(texts, **options)
        cut = max_length if truncation else None
        return {name: [row[:cut] for row in rows] for name, rows in made.items()}


def from_end():
    inner = make_tokenizer()
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return FromEnd(tokenizer_object=inner.backend_tokenizer, **special)


@pytest.mark.parametrize("longest", [3, 5, 6, 11])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("make", [make_tokenizer, without_special, from_end])
def test_a_cut_row_is_what_the_library_makes(make, side, longest):
    tokenizer = make()
    tokenizer.truncation_side = side
    texts = TEXTS if make is not without_special else TEXTS[:4]
    encoded = encode_texts(texts, tokenizer, longest)
    by_hand = tokenizer(texts, truncation=True, max_length=longest)
    for name, flat in encoded.ids.items():
        assert flat.tolist() == [*np.concatenate(by_hand[name])]
    assert encoded.lengths.tolist() == [len(row) for row in by_hand["input_ids"]]
    whole = tokenizer(texts)["input_ids"]
    assert encoded.full_lengths.tolist() == [len(row) for row in whole]


def test_special_tokens_are_counted_where_a_tokenizer_tells():
    assert shortest(make_tokenizer(), "") == 3
    assert shortest(without_special(), "") == 1
    assert shortest(Letters(), "") == 1
