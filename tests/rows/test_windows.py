"""Where windows begin and end, and what stands around the content of a text."""

import numpy as np
import pytest

from sklearn_torch_bridge._rows._windows import (
    TextWindows,
    cut_windows,
    ends_of,
)
from sklearn_torch_bridge.models import Maximum

EIGHT = Maximum(8, "tokens", "max_length")


@pytest.mark.parametrize("room", [1, 4, 7])
def test_windows_show_all_of_a_row_and_share_the_overlap(room):
    for overlap in range(room):
        for length in range(30):
            lengths = np.array([length, 5])
            counts, starts, stops = cut_windows(lengths, np.full(2, room), overlap)
            own = slice(0, counts[0])
            assert starts[0] == 0
            assert stops[own][-1] == length
            assert (stops[own] - starts[own] <= room).all()
            assert (stops[own][:-1] - starts[own][:-1] == room).all()
            assert (starts[own][1:] == stops[own][:-1] - overlap).all()
            assert (stops[own][1:] > stops[own][:-1]).all()  # each shows more


def encoder(before, behind):
    """Encode letters, with special tokens around."""

    def encode(texts):
        return {"input_ids": [[*before, *map(ord, text), *behind] for text in texts]}

    return encode


@pytest.mark.parametrize(
    ("before", "behind"), [([1], [2]), ([], [2]), ([1, 1], []), ([], []), ([3], [3])]
)
def test_special_tokens_are_found_on_both_sides(before, behind):
    encode = encoder(before, behind)
    rows = encode(["abc", "b"])["input_ids"]
    assert ends_of(encode, rows) == (len(before), len(behind))


def test_content_that_looks_like_a_special_token_is_content():
    encode = encoder([97], [98])  # as the letters a and b
    rows = encode(["aaab", "bbb", "abab"])["input_ids"]
    assert ends_of(encode, rows) == (1, 1)


def test_a_prompt_stands_in_each_window():
    encode = encoder([1], [2])
    row = encode(["p: abcdef"])["input_ids"][0]
    windows = TextWindows(EIGHT, prompt="p: ")
    spans = windows.of_texts(np.array([len(row), 3]), [row], encode)
    assert spans.counts.tolist() == [2, 1]
    assert (spans.heads.tolist(), spans.tails.tolist()) == ([4, 4, 0], [1, 1, 0])
    assert (spans.starts.tolist(), spans.stops.tolist()) == ([0, 3, 0], [3, 6, 3])


def test_tokens_that_are_not_pooled_do_not_count():
    encode = encoder([1], [2])
    row = encode(["p: abcdefgh"])["input_ids"][0]
    windows = TextWindows(EIGHT, prompt="p: ", n_unpooled=4)
    spans = windows.of_texts(np.array([len(row), 3]), [row], encode)
    assert spans.weights.tolist()[:2] == [4, 4]


def test_a_prompt_that_fills_a_window_is_refused():
    encode = encoder([1], [2])
    row = encode(["a long prompt: abcdefgh"])["input_ids"][0]
    windows = TextWindows(EIGHT, prompt="a long prompt: ")
    with pytest.raises(ValueError, match=r"less than the 0 tokens.*prompt, got 0"):
        windows.of_texts(np.array([len(row)]), [row], encode)
