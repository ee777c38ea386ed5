"""Fixtures of the tests on an accelerator, simulated or real.

They are named `check_*.py`, so that `pytest tests` passes them by: loading the
simulated device changes the process. `tests/whole/test_simulated_device.py` runs them.
"""

import gc

import pytest
import torch

import simulated_device


def pytest_addoption(parser):
    parser.addoption(
        "--accelerator",
        choices=["simulated", "real"],
        default="simulated",
        help="what `device` is: the simulated accelerator, or the machine's own",
    )


@pytest.fixture
def device(request):
    """Yield the accelerator; check that the test leaves no hazard and no memory."""
    if request.config.getoption("accelerator") == "real":
        if not torch.accelerator.is_available():
            pytest.skip("this machine has no accelerator")
        # In TF32 cuDNN's convolutions and recurrent layers are 2e-4 off the CPU's.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield torch.accelerator.current_accelerator()
        return
    place = simulated_device.load()
    simulated_device.reset()
    before = torch.accelerator.memory_allocated()
    failures = request.session.testsfailed
    yield place
    torch.accelerator.synchronize()  # late copies show their hazards
    hazards = simulated_device.hazards()
    simulated_device.reset()
    if request.session.testsfailed == failures:  # a failed test's frames hold tensors
        request.node.funcargs.clear()  # and so would fixtures that gave tensors
        if torch.accelerator.memory_allocated() > before:  # a cycle, or a leak
            gc.collect()
        assert hazards == []
        assert torch.accelerator.memory_allocated() <= before


@pytest.fixture
def simulated(request, device):  # noqa: ARG001 - it sets up and checks afterwards
    """Return the controls of the simulated device; skip on a real one."""
    if request.config.getoption("accelerator") == "real":
        pytest.skip("only the simulated device counts and sees hazards")
    return simulated_device
