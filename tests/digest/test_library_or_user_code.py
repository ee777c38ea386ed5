"""What belongs to a library, and what to the user."""

import sys
import types

import numpy as np
import pytest
from PIL import ImageColor
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_torch_bridge._digest import _library_or_user_code, digest
from sklearn_torch_bridge._digest._library_or_user_code import Library, library_of
from sklearn_torch_bridge._errors import FingerprintError


@pytest.mark.parametrize(
    ("value", "counts"),
    [(StandardScaler, True), (nn.Linear, False), (np.linalg.norm, False)],
    ids=["scikit-learn", "torch", "NumPy"],
)
@pytest.mark.usefixtures("libraries_anew")
def test_the_version_of_a_library_counts_where_it_says_something(
    monkeypatch, value, counts
):
    before = digest(value)
    _library_or_user_code._library.cache_clear()
    monkeypatch.setattr(_library_or_user_code, "_version", lambda top: "another")
    assert (digest(value) != before) == counts


@pytest.mark.usefixtures("libraries_anew")
def test_a_library_without_a_version_counts_by_its_code(monkeypatch):
    monkeypatch.setattr(_library_or_user_code, "_version", lambda top: None)
    assert library_of("PIL") is None
    before = digest(ImageColor.getrgb)
    monkeypatch.setattr(ImageColor, "re", None)
    assert digest(ImageColor.getrgb) != before


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("math", "math"),
        ("os.path", "os"),
        ("_thread", "_thread"),
        ("PIL.Image", "PIL"),
        ("sklearn.base", "sklearn"),
        (__name__, None),
        ("__main__", None),
        ("no_such_module", None),
        (None, None),
        (3, None),
    ],
    ids=str,
)
def test_libraries_are_told_from_the_users_code(module, name):
    assert (library_of(module) or Library(None, "")).name == name


@pytest.mark.parametrize(
    "module",
    [types.SimpleNamespace(), types.SimpleNamespace(__spec__=None)],
    ids=["no spec", "None"],
)
@pytest.mark.usefixtures("libraries_anew")
def test_a_module_made_by_hand_is_the_users(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "made_by_hand", module)
    assert library_of("made_by_hand") is None


def test_functions_of_compiled_code_have_no_name_to_go_by():
    """Two of them may carry the same name."""
    for function in (len, abs):
        with pytest.raises(FingerprintError, match=r"numpy\.ufunc"):
            digest(np.frompyfunc(function, 1, 1))


@pytest.mark.usefixtures("libraries_anew")
def test_a_users_module_named_as_one_of_python_counts_by_its_code(helpers):
    """The folder of a script comes first when it imports."""

    def call(x):
        return wave.clean(x)

    digests = []
    for text in ("def clean(x): return x", "def clean(x): return -x"):
        wave = helpers(text, "wave")
        digests.append(digest(call))
    assert digests[0] != digests[1]
