"""No file makes a wrong vector, runs code, or hangs; `hostile_files` says how."""

from pathlib import Path

import pytest

from tests.processes import run_code

SCRIPT = Path(__file__).parents[1] / "hostile_files.py"


@pytest.mark.parametrize("n_cases", [500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_files_changed_at_random_give_right_results_or_errors(n_cases):
    """In a process of its own, as the watch over what Python does stays to its end."""
    run = run_code(SCRIPT.read_text(), n_cases, 1, path=SCRIPT, seconds=1800)
    assert (run.returncode, run.stderr) == (0, "")
