"""Every exception can be caught as the kinds that the tree names."""

import copy
import pickle

import pytest

from sklearn_torch_bridge import _errors

TREE = {
    "ConversionError": TypeError,
    "OutputError": _errors.ConversionError,
    "FingerprintError": TypeError,
    "CacheError": ValueError,
    "LayerNotRunError": ValueError,
    "ForwardError": RuntimeError,
    "NotCompiledError": _errors.ForwardError,
    "PartitionError": RuntimeError,
    "BadRowWarning": UserWarning,
    "CacheWarning": UserWarning,
    "TruncationWarning": UserWarning,
}


def test_the_tree_names_every_exception():
    assert sorted(TREE) == _errors.__all__


@pytest.mark.parametrize("name", TREE)
def test_an_exception_is_of_the_kind_above_it_and_travels(name):
    error = getattr(_errors, name)("what came")
    assert TREE[name] in type(error).__bases__
    for found in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own bytes
        assert type(found) is type(error)
        assert str(found) == "what came"


def test_another_output_mends_an_output_error():
    assert issubclass(_errors.OutputError, ValueError)
