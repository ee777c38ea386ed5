import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge._storing._json import NotStorableError, decode, encode

ATOMS = st.none() | st.booleans() | st.integers() | st.text()
FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    ATOMS | FINITE,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner)
    ),
)


def there_and_back(value):
    return decode(json.loads(json.dumps(encode(value), allow_nan=False)))


@given(VALUES)
def test_values_come_back_in_kind(value):
    found = there_and_back(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("dtype", [np.float32, "<f4", np.dtype(">i8"), float, bool])
def test_dtypes_come_back(dtype):
    value = dtype if isinstance(dtype, str) else there_and_back(dtype)
    assert np.dtype(value) == np.dtype(dtype)


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "mps"])
def test_devices_come_back(device):
    assert there_and_back(torch.device(device)) == torch.device(device)


def test_numbers_of_numpy_come_back_as_those_of_python():
    found = there_and_back([np.int32(3), np.float64(0.5), np.bool_(1)])
    assert found == [3, 0.5, True]
    assert list(map(type, found)) == [int, float, bool]


def test_arrays_of_names_and_without_values_come_back():
    names = np.array(["a", "b"], dtype=object)
    np.testing.assert_array_equal(there_and_back(names), names, strict=True)
    for shape in [(0, 3), (0,), (0, 2, 3)]:
        empty = np.empty(shape, np.float32)
        np.testing.assert_array_equal(there_and_back(empty), empty, strict=True)


@pytest.mark.parametrize(
    "value",
    [
        *(len, np.ones(2), torch.ones(2), float("nan"), b"bytes", {1: 2}),
        *({"a": {3}}, np.dtype("O"), np.dtype("M8[s]"), str),
        pytest.param(object(), id="object"),
        pytest.param([object()], id="list of objects"),
    ],
    ids=repr,
)
def test_other_kinds_are_refused(value):
    with pytest.raises(NotStorableError, match="is no kind of value that is stored"):
        encode(value)


@pytest.mark.parametrize(
    "plain",
    [
        *({}, {"class": "os.system"}, {"tuple": [1], "dict": {}}, {"tuple": 1}),
        *({"dict": [1]}, {"dtype": "O"}, {"dtype": "S99999999999"}, {"dtype": []}),
        *({"device": "nowhere"}, {"device": 1.5}, {"names": 3}, {"no values": 1}),
        *({"no values": ["<f4", [2]]}, {"no values": ["<f4", [0, -1]]}),
        *({"no values": ["O", [0]]}, {"tuple": [{"x": 1}]}),
        *({"no values": ["<f4", [1 << n, 1 << n, 0]]} for n in (62, 99)),
    ],
    ids=repr,
)
def test_what_was_never_written_is_refused(plain):
    with pytest.raises(ValueError, match="no kind of value is stored as"):
        decode(plain)
