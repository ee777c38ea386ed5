"""The examples run, as their reader would run them, and show what they promise."""

import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NEEDS = {"MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}

# Of `make test`; `make examples` and `make test-slow` run them all.
QUICK = {"20_images", "21_windows", "22_text_and_numbers"}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, marks=[] if script.stem in QUICK else [pytest.mark.slow])
        for script in EXAMPLES
    ],
    ids=lambda script: script.stem,
)
def test_an_example_runs_and_shows_what_it_says(script, tmp_path, without_coverage):
    run = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=without_coverage | NEEDS,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    # Ray's core says of each actor that its model lies in the object store.
    said = [line for line in run.stderr.splitlines() if "core_worker.cc" not in line]
    assert said == []
    assert run.stdout
    assert {path.name for path in tmp_path.iterdir()} <= {"output"}
    if "savefig" in script.read_text():
        figure = matplotlib.image.imread(tmp_path / "output" / f"{script.stem}.png")
        is_drawn = np.ptp(figure[..., :3], axis=(0, 1)) > 0.5
        assert is_drawn.all()
        assert (figure[..., :3].min(-1) < 0.9).mean() > 0.01


def test_there_are_examples():
    assert {script.stem for script in EXAMPLES} > QUICK
