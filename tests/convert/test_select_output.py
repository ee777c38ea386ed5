from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sklearn_torch_bridge import ConversionError, OutputError
from sklearn_torch_bridge._convert._select_output import select_output
from tests.tiny_models import Pair

A, B = torch.zeros(2, 3), torch.ones(2, 5)


@dataclass
class Record:
    logits: torch.Tensor
    last_hidden_state: torch.Tensor | None = None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(A, id="tensor"),
        pytest.param((A,), id="1-tuple"),
        pytest.param([A], id="1-list"),
        pytest.param({"sentence_embedding": A, "last_hidden_state": B}, id="first"),
        pytest.param(OrderedDict(logits=B, last_hidden_state=A), id="mapping"),
        pytest.param(Record(B, A), id="dataclass"),
    ],
)
def test_a_plain_choice_needs_no_output(value):
    assert select_output(value) is A


@pytest.mark.parametrize(
    ("value", "output"),
    [
        pytest.param({"a": A, "b": B}, "a", id="key"),
        pytest.param((A, B), 0, id="index"),
        pytest.param((B, A), -1, id="negative"),
        pytest.param(Pair(A, B), "left", id="field"),
        pytest.param(Pair(B, A), 1, id="field index"),
        pytest.param(Record(A), "logits", id="field of a dataclass"),
        pytest.param(SimpleNamespace(a=A, b=B), "a", id="attribute"),
        pytest.param({0: A, 1: B}, 0, id="int key"),
        pytest.param({"a": (A,), "b": B}, "a", id="1-tuple in a field"),
        pytest.param((B, (A, B)), (1, 0), id="path of indices"),
        pytest.param({"states": (B, A)}, ("states", -1), id="path through a key"),
        pytest.param((B, {"x": Record(A)}), (1, "x", "logits"), id="path of three"),
        pytest.param({"a": A}, ("a",), id="path of one"),
        pytest.param(SimpleNamespace(a={"b": (A,)}), ("a", "b"), id="path to 1-tuple"),
    ],
)
def test_output_names_a_key_an_index_or_an_attribute(value, output):
    assert select_output(value, output) is A


@pytest.mark.parametrize(
    "value",
    [{"a": A, "b": B}, (A, B), Pair(A, B), Record(A), {"only": A}, ((A, B),)],
    ids=["dict", "tuple", "named tuple", "dataclass", "dict of one", "nested"],
)
def test_nothing_is_guessed(value):
    with pytest.raises(OutputError, match="choose one of them with `output`"):
        select_output(value)


def test_the_error_lists_fields_with_their_shapes():
    with pytest.raises(OutputError, match=r"dict .*'a' \(2, 3\), 'b' \(2, 5\)"):
        select_output({"a": A, "b": B})


@pytest.mark.parametrize(
    ("value", "output", "words"),
    [
        ({"a": A}, "c", r"'c'.*'a' \(2, 3\)"),
        ((A, B), 2, r"got 2.*0 \(2, 3\), 1 \(2, 5\)"),
        (A, "a", r"one value of shape \(2, 3\).*Leave `output` at None"),
        (A, 0, r"one value of shape \(2, 3\)"),
        (Record(A), "last_hidden_state", "got 'last_hidden_state'"),
        ({}, "a", "no fields"),
        (SimpleNamespace(a=A), "b", "a SimpleNamespace without such an attribute"),
    ],
    ids=[
        "key",
        "index",
        "name of a tensor",
        "index of a tensor",
        "None field",
        "empty",
        "attribute",
    ],
)
def test_an_output_that_is_not_there_is_refused(value, output, words):
    with pytest.raises(OutputError, match=words):
        select_output(value, output)


def test_several_tensors_in_the_chosen_field_are_refused():
    with pytest.raises(OutputError, match=r"`output`='states' is a tuple .*0 \(2, 3\)"):
        select_output({"states": (A, B)}, "states")


def test_output_error_is_a_conversion_error_and_a_value_error():
    assert issubclass(OutputError, ConversionError)
    assert issubclass(OutputError, ValueError)


@pytest.mark.parametrize("output", [None, 0], ids=str)
def test_packed_sequences_are_no_rows(output):
    packed = nn.utils.rnn.pack_sequence([torch.ones(2), torch.ones(1)])
    value = packed if output is None else (packed, torch.ones(2))
    with pytest.raises(OutputError, match=r"a PackedSequence, .*pad_packed_sequence"):
        select_output(value, output)


LSTM = (A, (B, torch.zeros(4)))


@pytest.mark.parametrize(
    ("value", "output", "words"),
    [
        (
            LSTM,
            None,
            r"0 \(2, 3\), 1 \(tuple of 2\).* \(1, 0\) \(2, 5\), \(1, 1\) \(4,\)",
        ),
        (LSTM, 1, r"`output`=1 is a tuple with the fields 0 \(2, 5\), 1 \(4,\)"),
        (LSTM, 7, r"got 7.*\(1, 0\) \(2, 5\)"),
        (
            LSTM,
            (1, 7),
            r"got \(1, 7\). Under \(1,\) is a tuple with the fields 0 \(2, 5",
        ),
        (LSTM, (0, 7), r"Under \(0,\) is one value of shape \(2, 3\). Take \(0,\) to"),
        ({"a": {"b": (A, B)}}, None, r"\('a', 'b', 0\) \(2, 3\)"),
        ({"a": {"b": (A, B)}}, ("a",), r"\('a', 'b', 1\) \(2, 5\)"),
        ({"a": {"b": (A, B)}}, ("a", "b"), r"`output`=\('a', 'b'\) is a tuple"),
        (
            [{"boxes": A}, {"boxes": B}],
            None,
            r"one entry a row, .*`layer`",
        ),
        ({"out": A}, None, r"'out' \(2, 3\); choose"),
    ],
    ids=str,
)
def test_the_error_says_how_to_name_what_is_nested(value, output, words):
    with pytest.raises(OutputError, match=words):
        select_output(value, output)


def test_a_long_list_of_nested_fields_is_cut():
    with pytest.raises(OutputError, match=r"\('states', 19\) \(2, 3\), \.\.\., each"):
        select_output({"states": [A] * 50, "more": B})
