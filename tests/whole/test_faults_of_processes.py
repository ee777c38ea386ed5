"""What fails ends in an error or a right result; docs/faults.md lists it all."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor, models
from sklearn_torch_bridge.models import _load_model, _registry
from tests.processes import run_code

SCRIPT = Path(__file__).parents[1] / "fault_processes.py"

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork and signals"),
]


def run_script(*arguments):
    """Run a function of fault_processes.py, and show what it said if it fails."""
    run = run_code(SCRIPT.read_text(), *arguments, path=SCRIPT)
    assert run.returncode == 0, run.stderr


def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path):
    mount = f"mount -t tmpfs -o size=6m none {tmp_path}"
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.call([*unshare, mount]):
        pytest.skip("needs unshare, and leave to mount a tmpfs in a namespace")
    prefix = [*unshare, f'{mount} && exec "$0" "$@"']
    helpers = os.pathsep.join(map(str, (SCRIPT.parents[1], SCRIPT.parent)))
    run = subprocess.run(
        [*prefix, sys.executable, str(SCRIPT), "full_disk", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": helpers, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")
def test_a_read_only_folder_is_an_error_and_leaves_what_was_there():
    # Not in `tmp_path`, which lies in a folder that nobody may enter.
    with tempfile.TemporaryDirectory() as folder:
        run_script("read_only", folder)


def test_batches_finished_before_a_kill_are_in_the_cache(quick_folder):
    run_script("killed_with_a_cache", quick_folder)


def test_parent_and_child_go_on_with_one_extractor(quick_folder):
    run_script("forked", quick_folder)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_a_process_short_of_memory_halves_or_raises(tmp_path):
    run_script("short_of_memory", tmp_path)


WORKS = ["cached", "lent", "workers", "devices", "precomputed", "file", "saved"]
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("work", "step"),
    [
        *((work, 17) for work in ("cached", "lent", "file", "saved")),
        *(pytest.param(work, 1, marks=SLOW) for work in WORKS),
    ],
)
def test_an_interrupt_at_calls_loses_and_leaves_nothing(quick_folder, work, step):
    run_script("interrupted_at_calls", quick_folder, work, step)


@pytest.mark.parametrize("work", ["workers", "devices"])
def test_an_interrupt_at_any_step_around_threads_leaves_none_waiting(
    quick_folder, work
):
    run_script("interrupted_around_threads", quick_folder, work)


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.slow
def test_an_interrupt_at_any_time_loses_and_leaves_nothing(quick_folder, work):
    run_script("interrupted_at_times", quick_folder, work, 300)


def test_a_clock_that_jumps_back_changes_no_result(tmp_path, monkeypatch, rng):
    """Neither rows of a cache nor a changed file of a model are taken for others."""
    monkeypatch.setattr(_registry, "LIBRARIES", dict(_registry.LIBRARIES))
    monkeypatch.setattr(_load_model, "_BY_STRING", _load_model.KeptModels())
    path = tmp_path / "weights.pt"

    def load(name):
        module = nn.Linear(4, 2)
        module.load_state_dict(torch.load(name, weights_only=True))
        return module

    models.register("own", load, files=lambda name: [Path(name)])
    X = rng.normal(size=(6, 4)).astype(np.float32)
    store = EmbeddingCache(tmp_path / "a.db")
    extractor = TorchFeatureExtractor(f"own:{path}", cache=store)
    now = time.time()
    for number, seconds in enumerate((now, now - 9e8, now - 9e8 + 1, 5.0)):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: seconds)
        monkeypatch.setattr(
            time, "time_ns", lambda seconds=seconds: int(seconds * 1_000_000_000)
        )
        torch.manual_seed(number)
        plain = nn.Linear(4, 2)
        torch.save(plain.state_dict(), path)
        os.utime(path, (seconds, seconds))
        Z = extractor.transform(X)
        expected = plain(torch.from_numpy(X)).detach().numpy()
        np.testing.assert_allclose(Z, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(extractor.transform(X), Z)
        assert len(store) == 6 * (number + 1)
    assert store.prune(max_bytes=6 * 8) == 18
    np.testing.assert_array_equal(extractor.transform(X), Z)
    assert len(store) == 6
