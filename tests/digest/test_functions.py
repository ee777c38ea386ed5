"""Digests of code, and of what it refers to."""

import abc
import functools
import importlib
import itertools
import json
import math
import os
import random
import socket
import subprocess
import sys
import threading
import types
import typing

import cloudpickle
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as its users call it
from PIL import ImageColor
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_torch_bridge._digest import _library_code, digest
from sklearn_torch_bridge._digest._code import code_digest
from sklearn_torch_bridge._digest._library_code import Library, library_of
from sklearn_torch_bridge._errors import FingerprintError

HERE = __name__
SCALE = 2.0


T = typing.TypeVar("T")
P = typing.ParamSpec("P")
Width = typing.NewType("Width", int)


def calls_scale(x):
    return x * SCALE


def calls_calls_scale(x):
    return calls_scale(x) + 1


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


class Base:
    offset = 1

    def shift(self, x):
        return x + self.offset


class Shifter(Base):
    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return super().shift(x) * self.by * SCALE


class Everything(abc.ABC):
    """A class with each kind of entry that a body may have."""

    table = {"a": [1]}  # noqa: RUF012 - part of what is digested

    @abc.abstractmethod
    def missing(self): ...

    @property
    def twice(self):
        return 2

    @functools.cached_property
    def thrice(self):
        return 3

    @classmethod
    def make(cls):
        return cls

    @staticmethod
    def helper(x):
        return calls_scale(x)


def adder(n, *, start=0):
    def add(x, by=start):
        return x + n + by

    return add


def ten_lines_up(x):
    return 2 * x


def decorated(function):
    @functools.wraps(function)
    def wrapper(x):
        return function(x)

    return wrapper


def autograd_function():
    """Define one more: torch numbers them."""

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # noqa: ARG004 - as torch calls it
            return 2 * x

    return Double


EQUAL = {
    "the same code elsewhere": (lambda: lambda x: 2 * x, lambda: lambda x: 2 * x),
    "another name": (lambda: ten_lines_up, lambda: lambda x: 2 * x),
    "made twice": (lambda: adder(1), lambda: adder(1)),
    "a set of constants": (  # Python 3.14 keeps the first of them
        lambda: lambda x: x in {"a", "b", "c"},
        lambda: lambda x: x in {"a", "c", "b"},
    ),
    "a set in another order": (lambda: {"a", "b"}, lambda: {"b", "a"}),
    "a set of tuples in another order": (
        lambda: {(word,): None for word in "abcdefgh"}.keys() | set(),
        lambda: {(word,): None for word in "hgfedcba"}.keys() | set(),
    ),
    "attributes in another order": (
        lambda: types.SimpleNamespace(a=1, b=2),
        lambda: types.SimpleNamespace(b=2, a=1),
    ),
    "keywords in another order": (
        lambda: functools.partial(adder, n=1, start=2),
        lambda: functools.partial(adder, start=2, n=1),
    ),
    "instances": (lambda: Shifter(1), lambda: Shifter(1)),
    "methods": (lambda: Shifter(1).shift, lambda: Shifter(1).shift),
    "a compiled function": (
        lambda: torch.compile(ten_lines_up, backend="eager"),
        lambda: ten_lines_up,
    ),
    "a remembered function": (
        lambda: functools.lru_cache(ten_lines_up),
        lambda: functools.lru_cache(ten_lines_up),
    ),
    "steps of a graph": (autograd_function, autograd_function),
    "big-endian values": (
        lambda: np.array([1, 2], ">i4"),
        lambda: np.array([1, 2], "<i4"),
    ),
    "strided values": (lambda: np.arange(6)[::2], lambda: np.array([0, 2, 4])),
    "strided tensors": (lambda: torch.arange(6)[::2], lambda: torch.tensor([0, 2, 4])),
    "gradients": (lambda: torch.ones(2).requires_grad_(), lambda: torch.ones(2)),
    "parameters": (lambda: nn.Parameter(torch.ones(2)), lambda: torch.ones(2)),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name):
    one, other = EQUAL[name]
    assert digest(one()) == digest(other())


UNEQUAL = {
    "a constant": (lambda x: 2 * x, lambda x: 3 * x),
    "the type of a constant": (lambda x: 2 * x, lambda x: 2.0 * x),
    "a bool for a number": (lambda: 1, lambda: True),
    "a str for a number": (lambda: 1, lambda: "1"),
    "bytes for a str": (lambda: "1", lambda: b"1"),
    "a set for a tuple": (lambda x: x in (1, 2), lambda x: x in {1, 2}),
    "a tuple of tuples": (lambda: ((1,), 2), lambda: ((1, 2),)),
    "the sign of nought": (lambda: 0.0, lambda: -0.0),
    "an imaginary constant": (lambda: 1 + 2j, lambda: 1 + 3j),
    "a real part": (lambda: 1 + 2j, lambda: 3 + 2j),
    "a complex nought": (lambda: 0j, lambda: 0.0),
    "a code object": (ten_lines_up.__code__, (lambda x: 3 * x).__code__),
    "an operator": (lambda x: x + 1, lambda x: x - 1),
    "an attribute": (lambda x: x.mean(), lambda x: x.sum()),
    "a keyword": (lambda x: x.mean(dim=0), lambda x: x.mean(axis=0)),
    "a global function": (lambda x: F.relu(x), lambda x: F.gelu(x)),  # noqa: PLW0108 - meant
    "an alias": (F.relu, F.relu6),
    "a name of a parameter": (lambda x: x, lambda y: y),
    "a default": (lambda x, n=1: x * n, lambda x, n=2: x * n),
    "a keyword default": (lambda x, *, n=1: x * n, lambda x, *, n=2: x * n),
    "a closure": (adder(1), adder(2)),
    "a default from a closure": (adder(1), adder(1, start=1)),
    "an inner function": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
    "a comprehension": (lambda x: [+i for i in x], lambda x: [-i for i in x]),
    "an owner": (Shifter(1).shift, Shifter(2).shift),
    "a method": (Shifter(1).shift, Shifter(1).__call__),
    "what is remembered": (
        functools.lru_cache(lambda x: x),
        functools.lru_cache(lambda x: -x),
    ),
    "what is decorated": (decorated(lambda x: x), decorated(lambda x: -x)),
    "what runs without gradients": (
        torch.no_grad()(lambda x: x),
        torch.no_grad()(lambda x: -x),
    ),
    "without gradients or not": (torch.no_grad()(ten_lines_up), ten_lines_up),
    "a transformed function": (
        torch.vmap(lambda x: x),
        torch.vmap(lambda x: -x),
    ),
    "a vectorised function": (np.vectorize(abs), np.vectorize(len)),
}


@pytest.mark.parametrize("name", UNEQUAL)
def test_unequal(name):
    one, other = UNEQUAL[name]
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    ("field", "counts"),
    [
        ("co_code", True),
        ("co_consts", True),
        ("co_names", True),
        ("co_varnames", True),
        ("co_freevars", True),
        ("co_exceptiontable", True),
        ("co_flags", True),
        ("co_argcount", True),
        ("co_kwonlyargcount", True),
        ("co_filename", False),
        ("co_firstlineno", False),
        ("co_name", False),
        ("co_qualname", False),
        ("co_linetable", False),
    ],
)
def test_of_code_what_it_does_counts(field, counts):
    free = 1

    def function(x, *, y):
        try:
            return x + y * free
        except TypeError:
            return None

    code = function.__code__
    value = getattr(code, field)
    new = value + 1 if isinstance(value, int) else value + type(value)(value[:1])
    changed = types.SimpleNamespace(
        **{
            name: getattr(code, name)
            for name in dir(code)
            if name.startswith("co_") and name != "co_lnotab"  # deprecated in 3.12
        }
        | {field: new}
    )
    assert (code_digest.__wrapped__(changed) != code_digest(code)) == counts


def test_slices_may_be_constants():
    """The compiler makes them from Python 3.14 on."""
    code = ten_lines_up.__code__
    slices = [slice(1, 2), slice(1, 3), slice(0, 2), slice(1, 2, 1), (1, 2, None)]
    changed = [code.replace(co_consts=(None, part)) for part in slices]
    assert len({code_digest.__wrapped__(one) for one in changed}) == len(slices)
    again = code.replace(co_consts=(None, slice(1, 2)))
    assert code_digest.__wrapped__(again) == code_digest.__wrapped__(changed[0])


@pytest.mark.parametrize(
    ("value", "target", "attribute", "new"),
    [
        (calls_scale, HERE, "SCALE", 3.0),
        (calls_calls_scale, HERE, "SCALE", 3.0),
        (lambda rows: [row * SCALE for row in rows], HERE, "SCALE", 3.0),
        (lambda: lambda x: x * SCALE, HERE, "SCALE", 3.0),
        (calls_calls_scale, HERE, "calls_scale", lambda x: x),
        (Shifter(1), HERE, "SCALE", 3.0),
        (Shifter(1), f"{HERE}.Base", "offset", 2),
        (Shifter(1), f"{HERE}.Base", "shift", lambda self, x: x),
        (
            Shifter(1).shift,
            f"{HERE}.Shifter",
            "__call__",
            lambda self, x: x,
        ),
        (even, HERE, "odd", lambda n: True),
        (Everything, HERE, "SCALE", 3.0),
        (Everything, f"{HERE}.Everything", "table", {"a": [2]}),
        (lambda x: F.relu(x), "torch.nn.functional", "relu", lambda x: x),  # noqa: PLW0108 - meant
        (lambda x: len(x), "builtins", "len", lambda x: 0),  # noqa: PLW0108 - meant
        (nn.Linear, "torch.nn.Linear", "forward", lambda self, x: x),
        (nn.Linear, "torch.nn.Module", "__call__", lambda self, x: x),
        (nn.Linear, "torch.nn.Linear", "forward", functools.partial(calls_scale)),
        (nn.Linear, "torch.nn.Linear", "forward", property(calls_scale)),
        (nn.Linear, "torch.nn.Linear", "forward", Shifter(1)),
    ],
    ids=[
        *("global", "global of a global", "global in a loop", "global further in"),
        *("global function", "global of a method"),
        *("class attribute", "inherited method", "another method", "recursion"),
        *("static method's global", "mutable class attribute", "function of torch"),
        *("builtin", "method of torch", "inherited from torch", "partial", "property"),
        "object",
    ],
)
def test_what_code_refers_to_counts(monkeypatch, value, target, attribute, new):
    before = digest(value)
    module, _, name = target.rpartition(".")
    owner = (
        getattr(sys.modules[module], name)
        if name[:1].isupper()
        else sys.modules[target]
    )
    monkeypatch.setattr(owner, attribute, new)
    assert digest(value) != before
    monkeypatch.undo()
    assert digest(value) == before


def test_a_patch_that_wears_the_name_of_what_it_replaces_is_seen(monkeypatch):
    def call(x):
        return F.relu(x)

    before = digest(call)

    @functools.wraps(F.relu)
    def patched(x):
        return x

    monkeypatch.setattr(F, "relu", patched)
    assert digest(call) != before


def test_a_patched_library_is_seen_by_what_imports_when_it_runs(monkeypatch):
    def call(x):
        from torch.nn.functional import relu

        return relu(x)

    before = digest(call)
    monkeypatch.setattr(F, "relu", lambda x: x)
    assert digest(call) != before


def test_objects_that_answer_every_question_wrong_are_no_hindrance():
    class Stubborn:
        def __getattr__(self, name):
            raise KeyError(name)

    assert digest(Stubborn()) == digest(Stubborn())


def test_code_of_a_function_may_be_replaced():
    def one(x):
        return x

    before = digest(one)
    one.__code__ = (lambda x: -x).__code__
    assert digest(one) != before


def test_attributes_of_a_function_count():
    def one(x):
        return x * one.factor

    one.factor = 1
    before = digest(one)
    one.factor = 2
    assert digest(one) != before


def test_running_a_function_changes_nothing():
    """Python 3.11 rewrites the code of functions that run often."""

    def one(x):
        return sum(i * SCALE for i in range(x)) + len("abc")

    before = digest(one)
    for _ in range(1_000):
        one(3)
    assert digest(one) == before


def test_the_class_of_a_class_counts():
    class Counted(type):
        """Makes classes that do what others do, and no more."""

    class Lazy(type):
        def __call__(cls, *args):
            return lambda: super().__call__(*args)

    makers = [type, Counted, Lazy]
    digests = {digest(make("Made", (), {"size": 1})) for make in makers}
    assert len(digests) == len(makers)
    assert digest(Lazy("Made", (), {"size": 1})) in digests


def test_only_what_a_class_writes_to_itself_is_its_working_state():
    def made(size):
        class Writing:
            def __call__(self, x):
                Base.size = x
                Writing.calls += 1
                return x

        Writing.size, Writing.calls = size, 0
        return Writing

    one = made(1)
    before = digest(one)
    assert digest(made(2)) != before
    one.calls = 7
    assert digest(one) == before


def test_names_that_lead_nowhere_count_too():
    def one():
        return nowhere + np.nowhere  # noqa: F821 - that is the point

    assert digest(one) == digest(one)


def test_a_class_made_later_may_be_found_once_it_is_there():
    """An empty closure cell, as in a function that refers to one below it."""

    def outer():
        def early():
            return late

        before = digest(early)
        late = 1
        return before, digest(early)

    before, after = outer()
    assert before != after


@pytest.fixture
def libraries_anew():
    """Forget where modules come from, before and after."""
    _library_code._library.cache_clear()
    yield
    _library_code._library.cache_clear()


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
    _library_code._library.cache_clear()
    monkeypatch.setattr(_library_code, "_version", lambda top: "another")
    assert (digest(value) != before) == counts


@pytest.mark.usefixtures("libraries_anew")
def test_a_library_without_a_version_counts_by_its_code(monkeypatch):
    monkeypatch.setattr(_library_code, "_version", lambda top: None)
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
        (HERE, None),
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


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """Give a function that writes a module of the user's and imports it anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text, name="users_helpers"):
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write
    for path in tmp_path.glob("*.py"):
        del sys.modules[path.stem]


@pytest.mark.parametrize("style", ["attribute", "module", "import", "import from"])
def test_the_users_modules_count_by_what_is_used(helpers, style):
    def attribute():
        return users_helpers.clean

    def module():
        return getattr(users_helpers, "cle" + "an")

    def import_():
        import users_helpers as inside

        return inside.clean

    def import_from():
        from users_helpers import clean

        return clean

    functions = {
        "attribute": attribute,
        "module": module,
        "import": import_,
        "import from": import_from,
    }
    function = functions[style]
    digests = []
    for text in ("def clean(x): return x", "def clean(x): return -x"):
        users_helpers = helpers(text)
        digests.append(digest(function))
    assert digests[0] != digests[1]


def test_a_module_inside_a_package_counts_though_nobody_has_imported_it(
    tmp_path, monkeypatch
):
    """`from package import module` imports what is no attribute of the package yet."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package = tmp_path / "users_package"
    package.mkdir()
    (package / "__init__.py").touch()

    def call(x):
        from users_package import part

        return part.clean(x)

    digests = []
    for text in ("def clean(x): return x", "def clean(x): return -x"):
        (package / "part.py").write_text(text)
        for name in ("users_package", "users_package.part"):
            monkeypatch.setitem(sys.modules, name, None)
            del sys.modules[name]
        importlib.invalidate_caches()
        digests.append(digest(call))
    assert digests[0] != digests[1]


def test_imports_that_lead_nowhere_count_too():
    bodies = [
        "import no_such_module",
        "import no_such_module.part",
        "from no_such_module import part",
        "from no_such_module import other",
        "from math import no_such_name",
        "from . import part",
        "from .. import part",
    ]

    def digests():
        for body in bodies:
            names = {"__name__": "__main__", "__package__": None}
            exec(f"def call():\n    {body}", names)  # noqa: S102 - a text of our own
            yield digest(names["call"])

    found = list(digests())
    assert len(set(found)) == len(bodies)
    assert list(digests()) == found


def test_what_is_imported_after_a_module_that_is_missing_counts(helpers):
    names = {"__name__": "__main__", "__package__": None}
    body = "from . import part; from users_helpers import clean; return clean"
    exec(f"def call(): {body}", names)  # noqa: S102 - a text of our own
    digests = []
    for text in ("def clean(x): return x", "def clean(x): return -x"):
        helpers(text)
        digests.append(digest(names["call"]))
    assert digests[0] != digests[1]


def test_what_is_imported_from_beside_a_module_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package = tmp_path / "users_folder"
    package.mkdir()
    (package / "__init__.py").write_text(
        "def call(x):\n    from .part import clean\n    return clean(x)\n"
    )
    digests = []
    for text in ("def clean(x): return x", "def clean(x): return -x"):
        (package / "part.py").write_text(text)
        for name in ("users_folder", "users_folder.part"):
            monkeypatch.setitem(sys.modules, name, None)
            del sys.modules[name]
        importlib.invalidate_caches()
        digests.append(digest(importlib.import_module("users_folder").call))
    assert digests[0] != digests[1]


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


@pytest.mark.parametrize(
    "function",
    [lambda: eval("SCALE"), lambda: globals(), lambda: exec("x = SCALE")],  # noqa: S307, PLW0108, S102 - refused
    ids=["eval", "globals", "exec"],
)
def test_code_that_can_read_anything_is_refused(function):
    with pytest.raises(FingerprintError, match=r"global '\w+' is a way to read what"):
        digest(function)


def closed_over(handle):
    return lambda x: handle


def custom_operator():
    library = torch.library.Library("digest_tests", "FRAGMENT")
    library.define("double(Tensor x) -> Tensor")
    LIBRARIES.append(library)
    return torch.ops.digest_tests.double.default


LIBRARIES = []  # an operator lives as long as its library

REFUSED = {
    "an open file": lambda: open(os.devnull),  # noqa: PTH123, SIM115 - closed when collected
    "a lock": threading.Lock,
    "a socket": socket.socket,
    "a generator": lambda: (x for x in ()),
    "an iterator": itertools.count,
    "a source of random numbers": lambda: np.random.default_rng(0),
    "an object whose state": threading.local,
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


@pytest.mark.parametrize(
    ("draw", "what"),
    [
        (lambda: random.random(), "random.random"),  # noqa: PLW0108, S311 - refused
        (lambda: random.shuffle([]), "random.shuffle"),
        (lambda: np.random.rand(), "np.random.rand"),  # noqa: PLW0108, NPY002 - refused
    ],
    ids=["random", "shuffle", "numpy"],
)
def test_global_random_numbers_are_refused(draw, what):
    with pytest.raises(
        FingerprintError, match=f"{what}' is a source of random numbers"
    ):
        digest(draw)


def test_the_way_to_what_cannot_be_identified_is_told():
    value = {"a": [types.SimpleNamespace(names=[threading.Lock()])]}
    way = r"item 0 of attribute 'names' of item 0 of value at 'a' is a lock"
    with pytest.raises(FingerprintError, match=way):
        digest(value)


def test_a_compiled_function_that_its_module_no_longer_has_is_refused(monkeypatch):
    square_root, cosine = math.sqrt, math.cos
    monkeypatch.delattr(math, "sqrt")
    monkeypatch.delattr(math, "cos")
    with pytest.raises(FingerprintError, match="it is a compiled function"):
        digest(square_root)
    assert digest(square_root, lenient=True) == digest(cosine, lenient=True)


def test_where_it_is_passed_over_what_can_read_anything_counts_by_its_type_alone():
    assert digest(eval, lenient=True) == digest(exec, lenient=True)
    assert digest(eval, lenient=True) != digest(len, lenient=True)


def test_functions_of_compiled_code_have_no_name_to_go_by():
    """Two of them may carry the same name."""
    for function in (len, abs):
        with pytest.raises(FingerprintError, match=r"numpy\.ufunc"):
            digest(np.frompyfunc(function, 1, 1))


def test_lenient_digests_see_all_else():
    lock = threading.Lock()
    one, other = ([lock, number] for number in (1, 2))
    assert digest(one, lenient=True) != digest(other, lenient=True)
    assert digest(one, lenient=True) == digest([threading.Lock(), 1], lenient=True)


SCRIPT = '''
import abc, collections, dataclasses, enum, functools, json, sys
import numpy as np, torch
from torch import nn
import torch.nn.functional as F

STOP = {"the", "a", "an", "of"}
LIMIT = 3

def keep(word):
    return word not in STOP and word not in {"is", "are", "was"} and len(word) < LIMIT

class Kind(enum.Enum):
    ONE = 1

@dataclasses.dataclass
class Setting:
    names: set = dataclasses.field(default_factory=lambda: {"x", "y", "z"})
    kind: Kind = Kind.ONE

class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

class Net(nn.Module):
    """Doubles."""

    modes = frozenset({"train", "eval", "other"})

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(2, 2)
        nn.init.ones_(self.lin.weight)
        nn.init.zeros_(self.lin.bias)
        self.act = F.gelu
        self.known = {"b", "a", "c"}

    @torch.no_grad()
    def forward(self, x):
        from math import pi
        return super().__call__(Scale.apply(self.act(self.lin(x)))) * pi

class Preprocess:
    def __init__(self, setting):
        self.setting = setting

    def __call__(self, rows):
        return [w for row in rows for w in row.split() if keep(w)]

def values():
    return {
        "function": keep,
        "lambda": lambda rows: np.stack([np.log(row) for row in rows]),
        "module": Net(),
        "object": Preprocess(Setting()),
        "partial": functools.partial(keep, word="x"),
        "class": Setting,
        "set": STOP,
        "sequence": nn.Sequential(nn.ReLU(), nn.Dropout(0.5)).eval(),
        "scripted": torch.jit.script(nn.Sequential(nn.ReLU())),
    }

def show():
    import warnings
    warnings.simplefilter("ignore")
    from sklearn_torch_bridge._digest import digest
    print(json.dumps({name: digest(v).hex() for name, v in values().items()}))
'''


def digests_in_a_process(path, seed, *, command=None):
    run = subprocess.run(
        [sys.executable, *(command or [str(path)])],
        env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()},  # noqa: PTH109 - the package under test
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_other_processes_agree(tmp_path):
    """As a script or a module, elsewhere, further down, under another hash seed."""
    script = tmp_path / "script.py"
    script.write_text(f"{SCRIPT}\nshow()\n")
    moved = tmp_path / "elsewhere" / "moved.py"
    moved.parent.mkdir()
    moved.write_text(f"# A comment.\n\n\n\n{SCRIPT}")
    expected = digests_in_a_process(script, "1")
    assert len(set(expected.values())) == len(expected)
    command = [
        "-c",
        "import torch; torch.jit.script(torch.nn.ReLU()); import moved; moved.show()",
    ]
    assert digests_in_a_process(moved, "2", command=command) == expected


def test_functions_and_classes_pickled_by_value_agree():
    """As joblib sends what is defined in a notebook to its workers."""
    offset = 3

    class Local(Base):
        names = frozenset({"a", "b"})

        def __call__(self, x):
            return super().shift(x) + offset + calls_scale(x)

        @property
        def twice(self):
            return 2

    def local(x):
        return Local()(x) + offset * SCALE + np.linalg.norm(x)

    for value in (local, Local, Local(), Local().shift, functools.partial(local, 1)):
        assert digest(cloudpickle.loads(cloudpickle.dumps(value))) == digest(value)


def test_names_for_type_checkers_are_written_as_names():
    functions = [
        lambda x: typing.cast(T, x),
        lambda x: typing.cast(P, x),
        lambda x: typing.cast(Width, x),
    ]
    assert len({digest(function) for function in functions}) == 3
    assert digest(typing.TypeVar("T")) == digest(T)
    assert digest(typing.TypeVar("U")) != digest(T)
