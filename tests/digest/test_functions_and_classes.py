"""Digests of code, and of what it refers to."""

import abc
import collections
import functools
import importlib
import json
import math
import os
import random
import subprocess
import sys
import types

import cloudpickle
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as its users call it
from torch import nn

from sklearn_torch_bridge._digest import (
    _functions_and_classes,
    digest,
)
from sklearn_torch_bridge._errors import FingerprintError

HERE = __name__
SCALE = 2.0


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


def test_attributes_of_a_function_count():
    def one(x):
        return x * one.factor

    one.factor = 1
    before = digest(one)
    one.factor = 2
    assert digest(one) != before


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


@pytest.mark.parametrize(
    "function",
    [lambda: eval("SCALE"), lambda: globals(), lambda: exec("x = SCALE")],  # noqa: S307, PLW0108, S102 - refused
    ids=["eval", "globals", "exec"],
)
def test_code_that_can_read_anything_is_refused(function):
    with pytest.raises(FingerprintError, match=r"global '\w+' is a way to read what"):
        digest(function)


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


def test_a_class_of_a_library_may_be_added_to_meanwhile(monkeypatch):
    told = _functions_and_classes.is_user_code

    def slow(value):
        name = f"_added_{len(vars(collections.Counter))}"
        monkeypatch.setattr(collections.Counter, name, 0, raising=False)
        return told(value)

    expected = digest(collections.Counter)
    monkeypatch.setattr(_functions_and_classes, "is_user_code", slow)
    assert digest(collections.Counter) == expected
