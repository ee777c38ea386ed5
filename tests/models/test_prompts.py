"""Names of prompts, and texts that are prompts themselves."""

import pytest

from sklearn_torch_bridge.models._prompts import Told, text_of_prompt

TOLD = Told({"query": "query: ", "passage": "passage: ", "none": ""}, "passage")


@pytest.mark.parametrize(
    ("prompt", "told", "text"),
    [
        ("query", TOLD, "query: "),
        (None, TOLD, "passage: "),
        ("", TOLD, ""),
        ("none", TOLD, ""),
        ("query: ", TOLD, "query: "),
        ("为这个句子\N{FULLWIDTH COLON}", TOLD, "为这个句子\N{FULLWIDTH COLON}"),
        ("query\n", TOLD, "query\n"),
        ("query", Told(), "query"),
        (None, Told(), ""),
        (None, Told({"query": "query: "}), ""),
        (None, Told({"query": "query: "}, "gone"), ""),
    ],
)
def test_a_prompt_is_a_name_or_a_text(prompt, told, text):
    assert text_of_prompt(prompt, told) == text


def test_a_name_that_is_none_is_refused_with_close_ones():
    with pytest.raises(ValueError, match=r"got 'qeury'\. Close names: 'query'\."):
        text_of_prompt("qeury", TOLD)
    with pytest.raises(ValueError, match=r"'none'\), or .* got 'x'\. To put .* 'x '"):
        text_of_prompt("x", TOLD)
