"""Rows, containers, options and entry points in any combination: right, or refused.

No process ends by a signal, no value differs from a route by hand, and no error is
without words of ours or of scikit-learn's checks. To look at one case::

    python -m tests.fuzz_processes 1234 1235
"""

import time

import numpy as np
import pytest
import torch

from sklearn_torch_bridge import ForwardError
from tests.fuzz_cases import Case, draw_case, fault_of
from tests.fuzz_processes import described, faults_in, faults_of

pytestmark = pytest.mark.faults

FEW, MANY = 300, 20_000
SECONDS = 15 * 60


def test_a_few_hundred_cases_are_right_or_refused():
    faults = faults_in(0, FEW)
    assert not faults, described(faults)


@pytest.mark.slow
def test_many_cases_are_right_or_refused():
    began = time.monotonic()
    faults = faults_of(MANY)
    assert not faults, described(faults)
    assert time.monotonic() - began < SECONDS


def test_a_case_is_drawn_by_its_number_alone():
    first = [draw_case(number).words for number in range(30)]
    again = [draw_case(number).words for number in reversed(range(30))]
    assert first == again[::-1]


def of_value(value, truths, **more):
    return fault_of(Case([], lambda: value, truths, **more))


def of_error(make):
    def call():
        raise make()

    return fault_of(Case([], call, None))


def test_what_comes_is_compared_with_the_truth():
    truths = [np.array([1.0, 2.0]), None]
    right = np.array([[1.0, 2.0], [np.nan, np.nan]])
    assert of_value(right, truths, forgives=True) is None
    assert of_value(right, truths) == "a bad row is given a value in silence"
    filled = np.array([[1.0, 2.0], [0.0, 0.0]])
    assert of_value(filled, truths, forgives=True) == "a bad row is no NaN row"
    assert of_value(right[:, ::-1][:1], truths[:1]) == "another value"
    assert of_value(right[:1, :1], truths[:1]) == "another shape: (1,), not (2,)"
    assert of_value(right[:1], truths) == "1 rows for 2"
    assert of_value(right, None, must_fail=True) == "accepted what it does not take"


def test_an_error_without_our_words_is_a_fault():
    def ours():
        return ForwardError("the model failed on row 1")

    def named():
        error = ValueError("no")
        error.add_note("While reading row 1.")
        return error

    assert of_error(ours) is None
    assert of_error(named) is None
    assert of_error(lambda: ValueError("no")).startswith(
        "ValueError of whole/test_fuzz"
    )
    numpys = fault_of(Case([], lambda: np.zeros(2).reshape(3), None))
    assert numpys.startswith("ValueError of")
    torchs = fault_of(Case([], lambda: torch.zeros(2).reshape(3), None))
    assert torchs.startswith("RuntimeError of")


def test_a_process_that_ends_takes_one_case_with_it(monkeypatch, tmp_path):
    """The process here is a script that ends by a signal at case 3, and finds one."""
    package = tmp_path / "tests"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "fuzz_processes.py").write_text(
        "import os, sys\n"
        "for number in range(int(sys.argv[1]), int(sys.argv[2])):\n"
        "    print(number, '', 'drawn', sep='\\t', flush=True)\n"
        "    if number == 3:\n"
        "        os.abort()\n"
        "    if number == 5:\n"
        "        print(number, 'wrong', 'drawn', sep='\\t', flush=True)\n"
    )
    monkeypatch.setattr("tests.fuzz_processes.ROOT", tmp_path)
    faults = faults_in(0, 7)
    assert faults == [
        (3, "the process ended by SIGABRT", "drawn"),
        (5, "wrong", "drawn"),
    ]
    assert "1 x wrong\n    case 5: drawn" in described(faults)
