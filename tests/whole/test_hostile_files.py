"""No file makes a wrong vector, runs code, or hangs; `hostile_files` says how."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "hostile_files.py"


@pytest.mark.parametrize("n_cases", [500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_files_changed_at_random_give_right_results_or_errors(n_cases):
    """In a process of its own, as the watch over what Python does stays to its end."""
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(n_cases), "1"],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
