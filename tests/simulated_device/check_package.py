"""What the package does with tensors of an accelerator, the simulated or a real one.

Take the `device` fixture, and on the simulated device it watches for hazards and leaks.
Take `simulated` too where a test needs its counters; it is skipped elsewhere.
"""

import numpy as np
import pytest
import torch

from sklearn_torch_bridge._convert import to_numpy, write_rows

DTYPES = [
    *(torch.bool, torch.uint8, torch.int16, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.float32, torch.float64),
]
LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.t(),
    "columns": lambda x: x[:, ::2],
    "first_token": lambda x: x.view(2, 2, 6)[:, 0],
    "expanded": lambda x: x[:1].expand(3, 6),
    "channels_last": lambda x: x.view(1, 2, 2, 6).to(memory_format=torch.channels_last),
    "0-dim": lambda x: x[1, 1],
    "no_rows": lambda x: x[:0],
}


def values(dtype):
    return (torch.arange(24).view(4, 6) % 7).to(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_to_numpy_gives_the_cpu_array(device, dtype, layout):
    cut = LAYOUTS[layout]
    expected = to_numpy(cut(values(dtype)))
    found = to_numpy(cut(values(dtype).to(device)))
    assert found.dtype == expected.dtype
    assert found.flags.c_contiguous
    assert found.flags.owndata
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_to_numpy_casts_to_the_dtype_asked_for(device, dtype):
    x = torch.linspace(-3, 3, 24, dtype=torch.bfloat16).view(4, 6)
    expected = to_numpy(x, dtype=dtype)
    found = to_numpy(x.to(device), dtype=dtype)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_to_numpy_waits_for_work_under_way(device):
    source = torch.arange(24.0).view(4, 6)
    if device.type != "mps":
        source = source.pin_memory()
    x = source.to(device, non_blocking=True)
    y = (x * 2).to(torch.bfloat16)
    np.testing.assert_array_equal(to_numpy(y), source.numpy() * 2)


def test_to_numpy_of_a_result_with_gradient(device):
    x = torch.ones(3, 2, device=device, requires_grad=True)
    np.testing.assert_array_equal(to_numpy(x * 3), np.full((3, 2), 3, np.float32))


def test_to_numpy_cannot_share_device_memory(device):
    with pytest.raises(ValueError, match="cannot be shared"):
        to_numpy(torch.ones(3, device=device), copy=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "first_token"])
def test_to_numpy_moves_the_narrow_values_once(simulated, device, dtype, layout):
    x = LAYOUTS[layout](values(dtype).to(device))
    simulated.reset()
    to_numpy(x)
    counts = simulated.counters()
    assert (counts["d2h"], counts["synchronizations"]) == (1, 1)
    assert counts["d2h_bytes"] == x.numel() * x.element_size()


def test_write_rows_leaves_the_other_rows_alone(device):
    target = np.full((5, 3), -1, np.float32)
    rows = np.array([3, 0])
    write_rows(target, rows, torch.ones(2, 3, dtype=torch.bfloat16, device=device))
    np.testing.assert_array_equal(target[rows], np.ones((2, 3)))
    np.testing.assert_array_equal(target[[1, 2, 4]], np.full((3, 3), -1))
