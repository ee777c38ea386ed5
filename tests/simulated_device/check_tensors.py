"""Tensors of the simulated device compute, copy and fail as those of a GPU do."""

import copy
import io
import pickle
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

DTYPES = [
    *(torch.bool, torch.uint8, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.float32, torch.float64, torch.complex64, torch.complex128),
]
LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (3, 6)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, padding=1), (2, 3, 8)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3, stride=2), (2, 3, 9, 9)),
    "conv_transpose": (lambda: nn.ConvTranspose2d(3, 4, 3), (2, 3, 5, 5)),
    "layer_norm": (lambda: nn.LayerNorm(6), (3, 6)),
    "rms_norm": (lambda: nn.RMSNorm(6), (3, 6)),
    "group_norm": (lambda: nn.GroupNorm(2, 4), (2, 4, 5)),
    "batch_norm": (lambda: nn.BatchNorm2d(3), (4, 3, 5, 5)),
    "gelu": (nn.GELU, (3, 6)),
    "softmax": (lambda: nn.Softmax(-1), (3, 6)),
    "lstm": (lambda: nn.LSTM(6, 4, batch_first=True), (2, 3, 6)),
    "gru": (lambda: nn.GRU(6, 4, num_layers=2), (3, 2, 6)),
    "encoder_layer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        (2, 5, 8),
    ),
    "pool": (lambda: nn.AdaptiveAvgPool2d(2), (2, 3, 6, 6)),
    "upsample": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 3, 3)),
}
MIXED = {
    "add": lambda x, y: x + y,
    "matmul": lambda x, y: x @ y,
    "cat": lambda x, y: torch.cat([x, y]),
    "stack": lambda x, y: torch.stack([y, x]),
    "where": lambda x, y: torch.where(x > 0, x, y),
    "linear": nn.functional.linear,
    "layer_norm": lambda x, y: nn.functional.layer_norm(x, (4,), y[0]),
    "batch_norm": lambda x, y: nn.functional.batch_norm(x, y[0], y[1] + 1),
    "embedding": lambda x, y: nn.functional.embedding(x.long(), y),
    "gather": lambda x, y: x.gather(0, y.long()),
    "index_select": lambda x, y: x.index_select(0, y[0].long()),
    "masked_fill": lambda x, y: x.masked_fill(y > 0, 0),
    "equal": torch.equal,
    "mse": nn.functional.mse_loss,
    "attention": lambda x, y: nn.functional.scaled_dot_product_attention(
        x[None], y[None], y[None]
    ),
    "in_place": lambda x, y: y.add_(x),
    "number_out": lambda x, y: torch.cumsum(x.sum(), 0, out=y.sum()),
    "out": lambda x, y: torch.add(x, x, out=y),
}


def first(output):
    return output[0] if isinstance(output, tuple) else output


def test_the_host_cannot_read_device_memory(device):
    x = torch.ones(3, device=device)
    with pytest.raises(TypeError, match=r"can't convert simdev:0 .* Use Tensor\.cpu"):
        x.numpy()
    with pytest.raises(TypeError, match=r"Use Tensor\.cpu"):
        np.asarray(x)
    code = (
        "import ctypes, torch, simulated_device; simulated_device.load();"
        "x = torch.ones(3, device='simdev'); print('loaded', flush=True);"
        "ctypes.string_at(x.data_ptr(), 1)"
    )
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout, run.returncode) == ("loaded\n", -signal.SIGSEGV)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_survive_the_way_there_and_back(device, dtype):
    x = torch.tensor([[0.0, 1, 2], [3, 1, 0]]).to(dtype)
    there = x.to(device)
    assert there.device == device
    assert there.dtype == dtype
    assert there.cpu().to(torch.complex128).tolist() == x.to(torch.complex128).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_new_memory_is_nan(device, dtype):
    assert torch.empty(5, device=device, dtype=dtype).isnan().all()
    assert torch.empty(5, dtype=dtype, pin_memory=True).isnan().all()


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_cpu_result(device, name):
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer, x = make().eval(), torch.randn(shape)
    with torch.inference_mode():
        expected = first(layer(x))
        found = first(layer.to(device)(x.to(device)))
    assert found.device == device
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", MIXED)
def test_mixed_devices_raise(device, name):
    x, y = torch.ones(4, 4, device=device), torch.ones(4, 4)
    with pytest.raises(RuntimeError, match=r"to (be on|have) the same device"):
        MIXED[name](x, y)


def test_numbers_and_index_tensors_may_come_from_the_cpu(device):
    x = torch.arange(6.0).view(2, 3).to(device)
    cases = [
        1 - x,
        x * torch.tensor(2.0),
        torch.where(torch.tensor([True]).to(device), x, torch.tensor(0.0)),
        torch.where(torch.tensor(True), x, x),
        x[torch.tensor([1, 0])],
        torch.bucketize(torch.tensor(1.5), x[0]),
    ]
    assert {case.device for case in cases} == {device}
    assert cases[4].tolist() == [[3, 4, 5], [0, 1, 2]]


def test_views_share_memory(device):
    x = torch.zeros(4, 6, device=device)
    x.t()[0].fill_(1)
    x.view(2, 2, 6)[1, 1, 5] = 2
    x.unfold(1, 2, 2)[0, 1].fill_(3)
    torch.view_as_real(torch.view_as_complex(x.view(4, 3, 2)))[2, 2, 0] = 4
    expected = torch.zeros(4, 6)
    expected[:, 0] = 1
    expected[3, 5] = 2
    expected[0, 2:4] = 3
    expected[2, 4] = 4
    assert x.tolist() == expected.tolist()


STRIDED = {
    "transposed": lambda x: x.t(),
    "sliced": lambda x: x[1:, ::2],
    "expanded": lambda x: x[:1].expand(3, 6),
    "channels_last": lambda x: x.view(1, 2, 2, 6).to(memory_format=torch.channels_last),
    "conj": lambda x: x.to(torch.complex64).mul(1j).conj(),
    "neg": lambda x: x.to(torch.complex64).mul(1j).conj().imag,
    "empty": lambda x: x[:0],
    "0-dim": lambda x: x[2, 2],
}


@pytest.mark.parametrize("name", STRIDED)
def test_strided_copies_in_every_direction(device, name):
    x = torch.arange(24.0).view(4, 6)
    expected = STRIDED[name](x)
    on_device = STRIDED[name](x.to(device))
    target = torch.empty_like(expected, device="cpu")
    assert on_device.cpu().tolist() == expected.tolist()
    assert expected.to(device).cpu().tolist() == expected.tolist()
    assert on_device.clone().cpu().tolist() == expected.tolist()
    assert target.copy_(on_device, non_blocking=True).tolist() == expected.tolist()


def test_casting_copies(device):
    x = torch.tensor([1.5, -2.25, 3.0])
    assert x.to(device, torch.bfloat16).cpu().dtype == torch.bfloat16
    assert x.to(device).to("cpu", torch.float64).tolist() == x.tolist()
    assert torch.empty(3, dtype=torch.int64).copy_(x.to(device)).tolist() == [1, -2, 3]


def test_out_in_place_and_resizing(device):
    x = torch.ones(2, 3, device=device)
    out = torch.empty(0, device=device)
    torch.cat([x, x], out=out)
    assert out.tolist() == torch.ones(4, 3).tolist()
    assert x.add_(1) is x
    assert x.resize_(3, 3)[:2].tolist() == [[2, 2, 2], [2, 2, 2]]
    assert x[2].isnan().all()
    x.untyped_storage().resize_(0)
    assert x.untyped_storage().nbytes() == 0


def test_gradients_and_an_optimizer_step(device):
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2)),
        torch.ones(5, 4),
    )
    twin = copy.deepcopy(model).to(device)
    for each, data in [(model, x), (twin, x.to(device))]:
        optimizer = torch.optim.AdamW(each.parameters(), lr=0.1)
        each(data).square().mean().backward()
        optimizer.step()
    for here, there in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(there.detach().cpu(), here.detach())


def test_copies_pickles_and_files(device):
    x = torch.arange(6.0, device=device).view(2, 3)
    file = io.BytesIO()
    torch.save({"x": x}, file)
    file.seek(0)
    loaded = torch.load(file)["x"]
    file.seek(0)
    on_cpu = torch.load(file, map_location="cpu")["x"]
    file.seek(0)
    mapped = torch.load(file, map_location=str(device))["x"]
    for same in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), loaded, mapped):  # noqa: S301 - our own bytes
        assert same.device == device
        assert same.data_ptr() != x.data_ptr()
        assert same.tolist() == x.tolist()
    assert on_cpu.device.type == "cpu"


def test_seeds_give_the_cpu_numbers(device):
    torch.manual_seed(3)
    there = torch.randn(4, device=device)
    state = torch.get_device_module(device).get_rng_state()
    more = torch.rand(3, device=device)
    torch.manual_seed(3)
    assert there.tolist() == torch.randn(4).tolist()
    assert more.tolist() == torch.rand(3).tolist()  # the second draw goes on
    torch.get_device_module(device).set_rng_state(state)
    with torch.random.fork_rng(device_type=device.type):
        assert torch.rand(3, device=device).tolist() == more.tolist()
    assert torch.rand(3, device=device).tolist() == more.tolist()
    generator = torch.Generator(device).manual_seed(3)
    drawn = torch.randn(4, device=device, generator=generator)
    assert drawn.tolist() == there.tolist()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(4, device=device, generator=torch.Generator())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(device, dtype):
    x, weight = torch.ones(3, 4, device=device), torch.ones(2, 4, device=device)
    with torch.autocast(device.type, dtype=dtype):
        product = nn.functional.linear(x, weight)
        assert product.dtype == dtype
        assert nn.functional.layer_norm(product, (2,)).dtype == torch.float32
        assert torch.is_autocast_enabled(device.type)
    assert nn.functional.linear(x, weight).dtype == torch.float32


def test_the_runtime_interface(device):
    assert torch.accelerator.current_accelerator(check_available=True).type == "simdev"
    assert torch.accelerator.device_count() == 1
    assert torch.get_device_module(device).is_available()
    with torch.device(device), torch.accelerator.device_index(0):
        assert torch.zeros(2).device == device
    with torch.get_device_module(device).device(device):
        assert torch.zeros(1, device=device.type).device == device
    assert nn.Linear(2, 2).simdev().weight.is_simdev
    assert "simdev:0" in repr(torch.ones(2, device=device))
    packed = nn.utils.rnn.pack_sequence([torch.ones(3, 4), torch.ones(2, 4)])
    assert nn.LSTM(4, 2).to(device)(packed.to(device))[0].data.device == device


def test_unknown_views_are_refused_rather_than_copied(device):
    library = torch.library.Library("simdev_check", "DEF")
    library.define("part(Tensor(a) x) -> Tensor(a)")
    with pytest.raises(NotImplementedError, match="returns a view"):
        torch.ops.simdev_check.part(torch.ones(2, device=device))


def test_nothing_warns_in_a_forward_pass(device):
    model = nn.Sequential(nn.Embedding(9, 4), nn.LSTM(4, 3)).to(device)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        assert model(torch.arange(6).view(3, 2).to(device))[0].shape == (3, 2, 3)
