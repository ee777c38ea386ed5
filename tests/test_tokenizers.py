"""Tokenizers are known by what they have."""

from sklearn_torch_bridge._tokenizers import is_tokenizer


class Letters:
    """A tokenizer of letters that leaves out the mask and has no padding token."""

    pad_token_id = None
    eos_token_id = 9
    model_input_names = ("input_ids",)
    model_max_length = 10**30

    def __call__(self, texts, *, truncation):
        assert truncation is False
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


def test_tokenizers_are_known_by_what_they_have(tokenizer):
    assert is_tokenizer(tokenizer)
    assert is_tokenizer(Letters())
    assert not is_tokenizer(str.split)
