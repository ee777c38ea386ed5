"""Streams of bytes: different for different values, and clear about what is refused."""

import copy
import itertools
import os
import re
import socket
import types

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from sklearn_torch_bridge._digest import digest
from sklearn_torch_bridge._digest._encoder import Encoder
from sklearn_torch_bridge._errors import FingerprintError


def closed_over(handle):
    return lambda x: handle


def custom_operator():
    library = torch.library.Library("digest_tests", "FRAGMENT")
    library.define("double(Tensor x) -> Tensor")
    LIBRARIES.append(library)
    return torch.ops.digest_tests.double.default


LIBRARIES = []  # an operator lives as long as its library


class Closed:
    def __reduce__(self):
        msg = "not even for a pickle"
        raise TypeError(msg)


REFUSED = {
    "an open file": lambda: open(os.devnull),  # noqa: PTH123, SIM115 - closed when collected
    "a socket": socket.socket,
    "a generator": lambda: (x for x in ()),
    "an iterator": itertools.count,
    "a source of random numbers": lambda: np.random.default_rng(0),
    "an object whose state": Closed,
    "the environment": lambda: os.environ,
    "a tensor whose values": lambda: torch.empty(2, device="meta"),
    "the custom operator": custom_operator,
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # they end with the test
def test_what_cannot_be_identified_is_named(what):
    handle = REFUSED[what]()
    pattern = (
        rf"`preprocess` cannot be fingerprinted: closure variable 'handle' is {what}.*"
        r"\. Give `cache_key`, a str that you change whenever"
    )
    with pytest.raises(FingerprintError, match=pattern):
        digest(closed_over(handle), name="`preprocess`")
    assert digest(closed_over(handle), lenient=True) != digest(
        closed_over([handle]), lenient=True
    )
    if hasattr(handle, "close"):
        handle.close()


def test_the_way_to_what_cannot_be_identified_is_told():
    value = {"a": [types.SimpleNamespace(names=[Closed()])]}
    way = r"item 0 of attribute 'names' of item 0 of value at 'a' is an object whose"
    with pytest.raises(FingerprintError, match=way):
        digest(value)


def test_lenient_digests_see_all_else():
    closed = Closed()
    one, other = ([closed, number] for number in (1, 2))
    assert digest(one, lenient=True) != digest(other, lenient=True)
    assert digest(one, lenient=True) == digest([Closed(), 1], lenient=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (1, "a"),
        lambda: frozenset({1}),
        lambda: re.compile("a"),
        lambda: torch.Size([1, 2]),
        lambda: range(3),
    ],
    ids=["tuple", "frozenset", "pattern", "size", "range"],
)
def test_constants_may_be_shared_or_not(make):
    """As the compiler or a cache likes."""
    one, other = make(), copy.deepcopy(make())
    re.purge()
    assert digest([one, one]) == digest([one, make()]) == digest([one, other])


PIECES = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"ab"]), st.binary(max_size=3)), max_size=3
)


@given(PIECES, PIECES)
@example([(b"a", b"b")], [(b"ab", b"")])
@example([(b"a", b"a"), (b"a", b"")], [(b"a", b"aa")])
@example([(b"a", b"1"), (b"a", b"")], [(b"a", b"1:1a0:")])
def test_pieces_do_not_run_into_each_other(one, other):
    def written(pieces):
        encoder = Encoder(
            writer_of=lambda value: None, name="", advice="", lenient=False
        )
        for kind, content in pieces:
            encoder.put(kind, content)
        return encoder.digest()

    assert (written(one) == written(other)) == (one == other)


def test_cycles_end():
    def ring(length):
        first = last = []
        for _ in range(length):
            last = [last]
        first.append(last)
        return first

    assert digest(ring(1)) == digest(ring(1))
    assert digest(ring(1)) != digest(ring(2))


def test_lists_that_are_shared_are_told_from_equal_ones():
    """Who changes one of them changes the other."""
    one, other = [], []
    found = {digest([one, one]), digest([one, other])}
    found |= {digest([one, other, last]) for last in (one, other, [])}
    assert len(found) == 5


def test_a_value_nested_too_deeply_is_an_error():
    deep = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(FingerprintError, match="nested too deeply"):
        digest(deep)


class Adding:
    """Changes what it lies in whenever it is written, as another thread might."""

    def __init__(self, name, add):
        self.name = name
        self.add = add

    def __reduce__(self):
        self.add()
        return str, (self.name,)


def _filled_list(adds):
    held = []
    held += [Adding(name, lambda: held.extend([0] * adds)) for name in "ab"]
    return held


def _filled_dict(adds):
    held = {}
    held |= {
        name: Adding(name, lambda: held.update({len(held): 0} if adds else {}))
        for name in "ab"
    }
    return held


def _filled_set(adds):
    held = set()
    held |= {
        Adding(name, lambda: held.update({len(held)} if adds else ())) for name in "ab"
    }
    return held


@pytest.mark.parametrize("make", [_filled_list, _filled_dict, _filled_set])
def test_what_changes_meanwhile_counts_as_it_was(make):
    assert digest(make(adds=True)) == digest(make(adds=False))
