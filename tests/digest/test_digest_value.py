"""Digests of values: equal where they must be, different elsewhere."""

import collections
import dataclasses
import decimal
import enum
import functools
import io
import logging
import math
import operator
import pathlib
import re
import types
import weakref

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.special
import torch
import torch.nn.functional as F  # noqa: N812 - as its users call it
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_torch_bridge._digest import digest


class Color(enum.Enum):
    RED = 1
    BLUE = "1"


Pair = collections.namedtuple("Pair", ["left", "right"])  # noqa: PYI024 - its pickling is meant
OtherPair = collections.namedtuple("OtherPair", ["left", "right"])  # noqa: PYI024 - as above


@dataclasses.dataclass
class Options:
    size: int = 1
    names: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    size: int = 1


class Text(str):
    __slots__ = ()


class WithSlots:
    __slots__ = ("length", "size")

    def __init__(self, size):
        self.size = size


class Bag(set):
    pass


def named(value, **attributes):
    vars(value).update(attributes)
    return value


DIFFERENT = {
    "None": None,
    "True": True,
    "1": 1,
    "1.0": 1.0,
    "-1": -1,
    "'1'": "1",
    "b'1'": b"1",
    "bytearray": bytearray(b"1"),
    "1j": 1j,
    "1 + 0j": 1 + 0j,
    "0.0": 0.0,
    "-0.0": -0.0,
    "2**70": 2**70,
    "np.float64(1)": np.float64(1),
    "np.float32(1)": np.float32(1),
    "np.int64(1)": np.int64(1),
    "np.str_": np.str_("1"),
    "Text": Text("1"),
    "array 0-d": np.array(1.0),
    "array 1-d": np.array([1.0]),
    "array 2-d": np.array([[1.0]]),
    "array float32": np.array([1.0], "f4"),
    "array of objects": np.array([1.0], object),
    "array of structs": np.array([(1,)], [("a", "i4")]),
    "array of other structs": np.array([(1,)], [("b", "i4")]),
    "array of dates": np.array([1], "M8[s]"),
    "array of other dates": np.array([1], "M8[ms]"),
    "matrix": np.array([[1.0]]).view(np.matrix),
    "masked array": np.ma.masked_array([1.0], [False]),
    "another mask": np.ma.masked_array([1.0], [True]),
    "tensor": torch.tensor([1.0]),
    "tensor half": torch.tensor([1.0]).half(),
    "tensor bfloat16": torch.tensor([1.0]).bfloat16(),
    "tensor 0-d": torch.tensor(1.0),
    "empty list": [],
    "empty tuple": (),
    "empty dict": {},
    "empty set": set(),
    "empty frozenset": frozenset(),
    "empty str": "",
    "empty bytes": b"",
    "list of one": [1],
    "list of a list": [[1]],
    "list in order": [1, 2],
    "nested here": [[1], 2],
    "nested there": [[1, 2]],
    "tuple nested here": ((1,), 2),
    "tuple nested there": ((1, 2),),
    "dict nested here": {"a": {"b": 1}, "c": 2},
    "dict nested there": {"a": {"b": 1, "c": 2}},
    "namespace nested here": types.SimpleNamespace(a=types.SimpleNamespace(b=1), c=2),
    "namespace nested there": types.SimpleNamespace(a=types.SimpleNamespace(b=1, c=2)),
    "deque nested here": collections.deque([collections.deque([1]), 2]),
    "deque nested there": collections.deque([collections.deque([1, 2])]),
    "list in another order": [2, 1],
    "split here": ["ab", "c"],
    "split there": ["a", "bc"],
    "tuple": (1, 2),
    "set": {1, 2},
    "frozenset": frozenset({1, 2}),
    "set of tuples": {(1, 2), (3, 4)},
    "set of other tuples": {(1, 4), (3, 2)},
    "set of sets": {frozenset({1, 2}), frozenset({3})},
    "set of other sets": {frozenset({1, 3}), frozenset({2})},
    "bag": Bag({1, 2}),
    "bag with an attribute": named(Bag({1, 2}), label="a"),
    "dict": {"a": 1, "b": 2},
    "dict in another order": {"b": 2, "a": 1},
    "dict swapped": {"a": 2, "b": 1},
    "dict with None": {"a": None},
    "ordered dict": collections.OrderedDict(a=1, b=2),
    "default dict": collections.defaultdict(int, a=1, b=2),
    "another default": collections.defaultdict(float, a=1, b=2),
    "deque": collections.deque([1, 2]),
    "deque with a limit": collections.deque([1, 2], maxlen=2),
    "named tuple": Pair(1, 2),
    "other named tuple": OtherPair(1, 2),
    "range": range(3),
    "slice": slice(3),
    "ellipsis": ...,
    "not implemented": NotImplemented,
    "enum": Color.RED,
    "enum with an equal-looking value": Color.BLUE,
    "enum class": Color,
    "dataclass": Options(),
    "dataclass with another field": Options(size=2),
    "dataclass with slots": Slotted(),
    "its other field": Slotted(2),
    "slots": WithSlots(1),
    "other slots": WithSlots(2),
    "namespace": types.SimpleNamespace(size=1),
    "namespace of another name": types.SimpleNamespace(length=1),
    "dtype": np.dtype("f4"),
    "dtype big-endian": np.dtype(">f4"),
    "dtype of torch": torch.float32,
    "name of a dtype": "float32",
    "device": torch.device("cpu"),
    "device 0": torch.device("cpu", 0),
    "layout": torch.strided,
    "memory format": torch.channels_last,
    "size": torch.Size([1, 2]),
    "path": pathlib.PurePosixPath("1"),
    "pattern": re.compile("1"),
    "pattern with a flag": re.compile("1", re.IGNORECASE),
    "decimal": decimal.Decimal(1),
    "decimal with a nought": decimal.Decimal("1.0"),
    "len": len,
    "str.lower": str.lower,
    "str.upper": str.upper,
    "method of a str": "1".join,
    "method of another str": "2".join,
    "method of an int": (1).__add__,
    "method of a class": dict.fromkeys,
    "np.log": np.log,
    "np.exp": np.exp,
    "wofz": scipy.special.wofz,  # not all are ufuncs with SCIPY_ARRAY_API
    "np.linalg.norm": np.linalg.norm,
    "np.dot": np.dot,
    "torch.relu": torch.relu,
    "F.relu": F.relu,
    "F.gelu": F.gelu,
    "torch.Tensor.relu": torch.Tensor.relu,
    "operator": torch.ops.aten.relu.default,
    "operators": torch.ops.aten.relu,
    "nn.ReLU": nn.ReLU,
    "nn.GELU": nn.GELU,
    "module of Python": types,
    "another module of Python": enum,
    "what the module is called": ("types", "types", ""),
    "partial": functools.partial(F.softmax, dim=0),
    "partial of another": functools.partial(F.log_softmax, dim=0),
    "partial with another argument": functools.partial(F.softmax, dim=1),
    "partial by position": functools.partial(F.softmax, 0),
    "getter": operator.itemgetter(1),
    "another getter": operator.itemgetter(2),
    "weak reference": weakref.ref(Color),
    "logger": logging.getLogger("a"),
    "another logger": logging.getLogger("b"),
    "buffer": io.BytesIO(b"1"),
    "frame": pd.DataFrame({"a": [1]}),
    "frame of floats": pd.DataFrame({"a": [1.0]}),
    "frame of another column": pd.DataFrame({"b": [1]}),
    "sparse array": scipy.sparse.csr_array([[1.0, 0.0]]),
    "another sparse array": scipy.sparse.csr_array([[0.0, 1.0]]),
    "scaler": StandardScaler(),
    "scaler with a parameter": StandardScaler(with_mean=False),
    "scaler fitted": StandardScaler().fit([[1.0], [2.0]]),
    "scaler fitted to other data": StandardScaler().fit([[1.0], [3.0]]),
    "scaler's method": StandardScaler().fit([[1.0], [2.0]]).transform,
    "vectoriser": TfidfVectorizer().fit(["a bb"]),
    "vectoriser of other words": TfidfVectorizer().fit(["a cc"]),
}


NOT_PICKLED = {
    *("operator", "operators", "weak reference"),
    *("masked array", "another mask"),  # copies have another fill value
}


def test_different_values_have_different_digests():
    digests = {name: digest(value) for name, value in DIFFERENT.items()}
    names = collections.defaultdict(list)
    for name, found in digests.items():
        names[found].append(name)
    assert [same for same in names.values() if len(same) > 1] == []


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: None, "bdc8d711444f628babbe781157165269"),
        (lambda: ..., "19948aedd84ad5d61e88d52853e2c24d"),
        (lambda: NotImplemented, "c8e91cafc43f9fe41c245854fe5f1641"),
        (lambda: -17, "74d7aa9a08a52d475a1f8280df2be32e"),
        (lambda: 0.5, "474a9ed174c474df8abb0b828327a91e"),
        (lambda: 1 + 2j, "91c28d8b95a2b4fcc241a6e262ebbc61"),
        (lambda: "text", "83c597b0c6508d5e41e73b97bbd697d4"),
        (lambda: b"bytes", "89b8e4a481ca2fc23dabc9a7bc3c97f9"),
        (lambda: bytearray(b"bytes"), "ac298d7add5b106cf2fed4222d5a19a8"),
        (lambda: torch.float32, "394c23c6457595131326d93f16f43b2a"),
        (lambda: torch.device("cpu"), "ebbbf1d5a10fa2539a9868cf47b59123"),
        (lambda: torch.strided, "e654de57e0e2c60ac93c8a4e808a5988"),
        (lambda: torch.channels_last, "e03390b7ed3067bf8d3902f92a4ef824"),
        (lambda: ["a", ("b", 1)], "39385e28ef19a4774b8cf65a20d45e74"),
        (lambda: [[1]] * 2, "929bfa00acc6bf97e72770a5c399c217"),
        (lambda: {"a": {"b": None}}, "afa702d89767ea67b099999fdab15bde"),
        (lambda: {1, "a", (2, 3)}, "516eeb4f03094f4063fec58d62e9c3c7"),
        (lambda: frozenset({1}), "567e92a5a033ec62a3c9d69abfe75579"),
        (lambda: np.float32(1), "ce2e95e844f9c368722949f996babd55"),
        (lambda: np.dtype("f4"), "c342e94d61c274730f6afc8c0d9ee65e"),
        (lambda: np.arange(3, dtype=">i4"), "bb327205230b1b1a750144d3ff7bae32"),
        (lambda: np.array(["a", None], object), "a18a649b005dc83145af16c913067242"),
        (lambda: np.array([(1,)], [("a", "i4")]), "0995997703d9423e3b8a9abf07aec345"),
        (lambda: torch.ones(2, 3), "4b822409a171f0c2cffe5d8a20b2f94e"),
        (lambda: torch.eye(2).to_sparse(), "06db8bdc9f346b4225997df6ef67c7b2"),
        (lambda: torch.eye(2).to_sparse_csr(), "d6fbd14f638163e68f91e3b7f7aa0c23"),
        (lambda: torch.eye(2).to_sparse_csc(), "4c3cd0ebd6259f5b5b9bcd674fc173e9"),
        (lambda: range(3), "7ebb1ff05728e6125517bef0aaba425f"),
        (lambda: slice(3), "204ff192c907ab78811feec65e3b45f9"),
        (lambda: types.SimpleNamespace(a=1), "26b1c359917b68ed0a7c81d5671d66a4"),
        (lambda: types.MappingProxyType({"a": 1}), "9410af9135d23e835278354119ba73e8"),
        (lambda: collections.OrderedDict(a=1), "f6c559943a5481839f0c8552c3a6f4a7"),
        (lambda: functools.partial(math.pow, 2.0), "43b3dab5d778973f73e8eb7a099b0120"),
        (lambda: "1".join, "6726d2423a34990167de536a09e21d23"),
        (lambda: str.lower, "97bcbbb021ab8578004f1ff34049f81a"),
        (lambda: dict.fromkeys, "d5fb9a43b359b22f194aba20612bf874"),
        (lambda: math.sqrt, "4b994d0e357f1fb7328881bb4c9a876e"),
        (lambda: math, "b064a12ce219eac6810b332bb254c7c2"),
        (lambda: F.relu, "6a2e6d39d455a4ecdd5b8bfd345bb06c"),
        (lambda: nn.Identity().forward, "06d937042ae6abb8689370b21d5dcfbe"),
        (
            lambda: weakref.ref(collections.OrderedDict),
            "99b05fc403f202e4c7c53c4ed6ac34f2",
        ),
        (lambda: torch.ops.aten.relu.default, "520e7a69749ab7f206f57358d874a96f"),
        (nn.Identity, "d44b91de8e4eef8ecf82954bcec4d3e8"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse .* in beta:UserWarning")  # CSR, torch says
def test_digests_are_those_of_earlier_versions(make, expected):
    """Else no cache that anybody has would be found again."""
    assert digest(make()).hex()[:32] == expected


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_copy_has_the_same_digest(name):
    value = DIFFERENT[name]
    expected = digest(value)
    assert digest(value) == expected
    if name not in NOT_PICKLED:
        assert digest(cloudpickle.loads(cloudpickle.dumps(value))) == expected


ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf")]),
    st.text("ab1", max_size=2),
    st.binary(max_size=1),
)
MEMBERS = st.one_of(
    ATOMS,
    st.lists(ATOMS, max_size=2).map(tuple),
    st.frozensets(ATOMS, max_size=2),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(ATOMS, inner, max_size=2),
        st.frozensets(MEMBERS, max_size=2),
    ),
    max_leaves=4,
)


def spelled(value):
    """Write a value so that all that differs looks different."""
    if isinstance(value, dict):
        pairs = [f"{spelled(key)}:{spelled(item)}" for key, item in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(spelled, value))})"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({[*map(spelled, value)]})"
    return repr(value)


@given(VALUES, VALUES)
def test_digests_are_equal_where_values_are(one, other):
    assert (digest(one) == digest(other)) == (spelled(one) == spelled(other))
