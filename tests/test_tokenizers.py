"""Tokenizers are known by what they have."""

from sklearn_torch_bridge._tokenizers import is_tokenizer
from tests.tiny_models import Letters


def test_tokenizers_are_known_by_what_they_have(tokenizer):
    assert is_tokenizer(tokenizer)
    assert is_tokenizer(Letters())
    assert not is_tokenizer(str.split)
