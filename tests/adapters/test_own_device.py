"""Workers of one machine take one device each."""

import sys

import pytest
import torch

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.adapters import _own_device
from sklearn_torch_bridge.adapters._own_device import claim, with_own_device
from tests.processes import warm_context

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no locks that a dead process leaves"
)


def claim_and_wait(names, folder, pipe):
    pipe.send(claim(names, folder))
    pipe.poll(None)  # until the test ends it


@pytest.fixture
def claiming(tmp_path):
    """Give a function that starts a process, and says what it has claimed."""
    running = []

    def start(*names):
        ours, theirs = warm_context().Pipe()
        process = warm_context().Process(
            target=claim_and_wait, args=(names, tmp_path, theirs)
        )
        process.start()
        theirs.close()
        running.append((process, ours))
        return process, ours.recv()

    yield start
    for process, pipe in running:
        pipe.close()
        process.join()


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch):
    monkeypatch.setattr(_own_device, "_HELD", {})


def test_processes_take_different_devices_and_a_dead_one_leaves_its(claiming, tmp_path):
    first, number = claiming("0", "1")
    assert number == 0
    assert claiming("0", "1")[1] == 1
    assert claim(["0", "1"], tmp_path) in (0, 1)  # more workers than devices
    first.kill()
    first.join()
    assert claim(["0", "1"], tmp_path) == 0
    assert claim(["0", "1"], tmp_path) == 0  # asked again, it is the same


def test_devices_are_told_apart_by_the_machines_numbers(claiming):
    """dask-cuda gives each worker all devices, in another order."""
    assert claiming("0", "1")[1] == 0
    assert claiming("1", "0")[1] == 0


@pytest.fixture
def two_devices(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda: torch.device("cuda")
    )
    monkeypatch.setattr(_own_device, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("visible", "device"), [(None, "cuda:1"), ("1,0", "cuda:0"), ("0,1", "cuda:1")]
)
@pytest.mark.usefixtures("two_devices")
def test_a_worker_runs_where_no_other_does(claiming, monkeypatch, visible, device):
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert claiming("0")[1] == 0
    extractor = TorchFeatureExtractor(torch.nn.ReLU())
    with_own_device(extractor)
    assert extractor.device == device


def test_a_device_that_was_asked_for_stays(two_devices):
    extractor = TorchFeatureExtractor(torch.nn.ReLU(), device="cpu")
    with_own_device(extractor)
    assert extractor.device == "cpu"
    assert [*two_devices.iterdir()] == []
