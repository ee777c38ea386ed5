"""Variables of the environment count by the names in the code that reads them."""

import getpass
import locale
import os
import os as system
import shutil
import tempfile
from os import environ, getenv
from os.path import expandvars
from pathlib import Path

import pytest

from sklearn_torch_bridge._digest import digest
from sklearn_torch_bridge._digest._environment import variables_used
from sklearn_torch_bridge._errors import FingerprintError

NAME = "STB_TESTS_MODE"
HELD = os.environ


def by_get(x):
    return x if os.environ.get("STB_TESTS_MODE") else -x


def by_getenv(x):
    return x if os.getenv("STB_TESTS_MODE", "0") == "0" else -x


def by_item(x):
    return x + len(os.environ["STB_TESTS_MODE"])


def by_membership(x):
    return x if "STB_TESTS_MODE" in os.environ else -x


def by_lack(x):
    return x if "STB_TESTS_MODE" not in environ else -x


def by_imported_names(x):
    return x if getenv("STB_TESTS_MODE") or environ.get("STB_TESTS_MODE") else -x


def by_another_name(x):
    return x if system.environ.get("STB_TESTS_MODE") else -x


def by_a_global_name(x):
    return x if os.environ.get(NAME) else -x


def by_a_global_mapping(x):
    return x if HELD.get("STB_TESTS_MODE") else -x


def by_its_own_import(x):
    import os as own

    return x if own.environ.get("STB_TESTS_MODE") else -x


def by_its_own_name(x):
    from os import getenv as own

    return x if own("STB_TESTS_MODE") else -x


def in_a_text(x):
    return x + len(os.path.expandvars("/data/$STB_TESTS_MODE/x"))


def in_braces(x):
    return x + len(expandvars("${STB_TESTS_MODE}"))


def in_a_text_by_its_own_import(x):
    from os.path import expandvars as own

    return x + len(own("$STB_TESTS_MODE"))


def with_a_default_put_together(x, name="a"):
    return x + len(os.getenv("STB_TESTS_MODE", name.lower() + f"{name}b"))


def inside(x):
    return [os.environ.get("STB_TESTS_MODE") for _ in x]


def three_calls_down(x):
    return two_calls_down(x)


def two_calls_down(x):
    return by_get(x)


def closed_over():
    held = os.environ

    def by_a_closure(x):
        return x if held.get("STB_TESTS_MODE") else -x

    return by_a_closure


READING = [
    *(by_get, by_getenv, by_item, by_membership, by_lack, by_imported_names),
    *(by_another_name, by_a_global_name, by_a_global_mapping, by_its_own_import),
    *(by_its_own_name, inside, three_calls_down, closed_over()),
    *(in_a_text, in_braces, in_a_text_by_its_own_import, with_a_default_put_together),
]


@pytest.mark.parametrize("function", READING, ids=lambda one: one.__name__)
def test_the_value_of_the_variable_counts(function, monkeypatch):
    monkeypatch.setenv("STB_TESTS_OTHER", "1")
    monkeypatch.setenv("STB_TESTS_MODE", "1")
    one = digest(function)
    monkeypatch.setenv("STB_TESTS_MODE", "2")
    other = digest(function)
    monkeypatch.delenv("STB_TESTS_MODE")
    assert len({one, other, digest(function)}) == 3
    monkeypatch.setenv("STB_TESTS_MODE", "1")
    monkeypatch.setenv("STB_TESTS_OTHER", "2")
    assert digest(function) == one


def by_any_name(x, name="STB_TESTS_MODE"):
    return x if os.environ.get(name) else -x


def by_any_name_of_getenv(x, name="STB_TESTS_MODE"):
    return x if os.getenv(name) else -x


def as_a_whole(x):
    return x + len(dict(os.environ))


def by_items(x):
    return x + len([name for name, _ in os.environ.items()])


def kept_first(x):
    held = os.environ
    return x if held.get("STB_TESTS_MODE") else -x


def by_its_own_import_of_any(x, name="a"):
    import os as own

    return x + own.environ[name]


def by_a_sum(x, name="MODE"):
    return x + len(os.getenv("STB_TESTS_" + name, ""))


def by_a_filled_text(x, name="MODE"):
    return x + len(os.environ.get(f"STB_TESTS_{name}", ""))


def by_a_method_of_a_text(x):
    return x + len(os.environ.get("stb_tests_mode".upper(), ""))


def by_any_text(x, text="$STB_TESTS_MODE"):
    return x + len(os.path.expandvars(text))


def by_a_sum_of_texts(x, text="/x"):
    return x + len(os.path.expandvars("$STB_TESTS_MODE" + text))


@pytest.mark.parametrize(
    "function",
    [
        *(by_a_sum, by_a_filled_text, by_a_method_of_a_text),
        *(by_any_text, by_a_sum_of_texts),
        *(by_any_name, by_any_name_of_getenv, as_a_whole, by_items, kept_first),
        by_its_own_import_of_any,
    ],
    ids=lambda one: one.__name__,
)
def test_names_that_are_not_constant_ask_for_a_key(function):
    with pytest.raises(FingerprintError, match=r"'os\.environ' is .*Give `cache_key`"):
        digest(function)
    assert digest(function, lenient=True) == digest(function, lenient=True)


PLACES = [
    *(lambda: Path("~/x").expanduser(), Path.home, getpass.getuser),
    *(tempfile.gettempdir, os.getcwd, locale.getlocale, lambda: shutil.which("ls")),
]


@pytest.mark.parametrize("function", PLACES, ids=map(str, range(len(PLACES))))
def test_places_and_names_of_people_do_not_count(function, monkeypatch):
    before = digest(function)
    for name in ("HOME", "USERPROFILE", "USER", "TMPDIR", "LANG", "PATH"):
        monkeypatch.setenv(name, "other")
    assert digest(function) == before


def test_what_is_only_set_is_not_read():
    def sets(x):
        os.environ["STB_TESTS_MODE"] = "1"
        os.cpu_count()
        return x

    names = variables_used(sets.__code__, {"os": os}.get).read
    assert names == set()


def counts_down(x):
    os.environ["STB_TESTS_MODE"] = str(int(os.environ["STB_TESTS_MODE"]) - 1)
    return x


def test_a_variable_that_code_sets_and_reads_is_carried_from_row_to_row(monkeypatch):
    monkeypatch.setenv("STB_TESTS_MODE", "3")
    with pytest.raises(FingerprintError, match=r"STB_TESTS_MODE.*is read and written"):
        digest(counts_down)
    before = digest(counts_down, lenient=True)
    monkeypatch.setenv("STB_TESTS_MODE", "2")
    assert digest(counts_down, lenient=True) == before
