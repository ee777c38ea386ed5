"""What the package does with tensors of an accelerator, the simulated or a real one.

Take the `device` fixture, and on the simulated device it watches for hazards and leaks.
Take `simulated` too where a test needs its counters; it is skipped elsewhere.
"""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor, _pinned_memory
from sklearn_torch_bridge._convert import to_numpy, write_rows
from tests.replica.test_make_replica import snapshot
from tests.tiny_models import Returning, Stateful, cnn, mlp

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
    with pytest.raises(ValueError, match="`copy` must be True or None"):
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


# The extractor -----------------------------------------------------------------------


@pytest.fixture(params=["waiting", "staged"])
def route(request, device, monkeypatch):
    """Run on a device that copies and waits, and on one that is staged as CUDA is."""
    staged = {device.type} if request.param == "staged" else set()
    if request.param == "staged" and device.type not in ("cuda", "simdev"):
        pytest.skip(f"copies from {device.type} may not run beside the host")
    monkeypatch.setattr(_pinned_memory, "STAGED_DEVICES", staged)
    return request.param


MODELS = {
    "table": (mlp, (13, 4), {}),
    "images": (cnn, (7, 3, 8, 8), {}),
    "layers": (cnn, (7, 3, 8, 8), {"layer": ["0", "2"], "pooling": "max"}),
    "axes": (cnn, (7, 3, 8, 8), {"pooling": None}),
    "half": (lambda: mlp().bfloat16(), (13, 4), {}),
    "buffers": (Stateful, (13, 3), {}),
    "recurrent": (
        lambda: nn.GRU(3, 5, batch_first=True),
        (7, 6, 3),
        {"output": 0, "pooling": "last"},
    ),
}


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("name", MODELS)
def test_the_extractor_gives_the_numbers_of_the_cpu(device, name):
    torch.manual_seed(0)
    make, shape, parameters = MODELS[name]
    module = make()
    X = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before = snapshot(module)
    extractor = TorchFeatureExtractor(module, batch_size=4, device=device, **parameters)
    expected = TorchFeatureExtractor(module, batch_size=4, device="cpu", **parameters)
    tolerance = 2e-2 if name == "half" else 1e-4
    np.testing.assert_allclose(
        extractor.transform(X), expected.transform(X), rtol=tolerance, atol=tolerance
    )
    assert snapshot(module) == before


@pytest.mark.usefixtures("route")
def test_texts_are_pooled_on_the_device(device, tokenizer, texts):
    torch.manual_seed(0)
    module = nn.Embedding(30_522, 8)
    on_device = TorchFeatureExtractor(
        module, preprocess=tokenizer, batch_size=3, device=device
    )
    on_cpu = TorchFeatureExtractor(module, preprocess=tokenizer, device="cpu")
    np.testing.assert_allclose(
        on_device.transform(texts), on_cpu.transform(texts), rtol=1e-5, atol=1e-5
    )


@pytest.mark.usefixtures("route")
def test_auto_is_the_accelerator_and_rows_may_be_there_already(device):
    module = mlp()
    X = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    places = []
    module.register_forward_hook(lambda *args: places.append(args[2].device.type))
    Z = TorchFeatureExtractor(module, batch_size=4).transform(X.to(device))
    assert set(places) == {device.type}
    expected = TorchFeatureExtractor(module, device="cpu").transform(X)
    np.testing.assert_allclose(Z, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [None, ["first", "second"]], ids=str)
def test_one_wait_a_batch_at_most(simulated, route, layer):
    extractor = TorchFeatureExtractor(mlp(), batch_size=2, layer=layer)
    X = np.ones((10, 4), np.float32)
    extractor.transform(X)  # the weights travel once
    simulated.reset()
    extractor.transform(X)
    counts = simulated.counters()
    per_batch = 1 if route == "staged" else 2 + (layer is not None)
    assert counts["synchronizations"] <= 5 * per_batch
    assert counts["d2h"] == 5 * (1 if layer is None else 2)


@pytest.mark.usefixtures("route")
def test_weights_travel_again_only_when_they_have_changed(simulated):
    module = mlp()
    extractor = TorchFeatureExtractor(module, batch_size=8)
    X = np.ones((5, 4), np.float32)
    first = extractor.transform(X)
    simulated.reset()
    extractor.transform(X)
    assert simulated.counters()["h2d"] == 1  # the rows
    module.second.bias.data += 1  # no version counter tells
    np.testing.assert_allclose(extractor.transform(X), first + 1, rtol=1e-5)


@pytest.mark.usefixtures("device", "route")
def test_a_failing_batch_leaves_nothing_under_way():
    module = Stateful()
    module.limit = 50
    X = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    X[7, 0] = 51
    with pytest.raises(RuntimeError, match="on row 7"):
        TorchFeatureExtractor(module, batch_size=3).transform(X)
    X[7, 0] = 0
    TorchFeatureExtractor(module, batch_size=3).transform(X)


@pytest.mark.usefixtures("device", "route")
def test_batches_before_an_error_are_kept(tmp_path):
    module = Stateful()
    module.limit = 50
    X = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    X[7, 0] = 51
    with EmbeddingCache(tmp_path / "embeddings.db") as cache:
        with pytest.raises(RuntimeError, match="on row 7"):
            TorchFeatureExtractor(module, batch_size=3, cache=cache).transform(X)
        assert len(cache) == 7  # it draws, so that rows run one by one


@pytest.mark.usefixtures("device", "route")
def test_a_model_may_return_what_is_on_the_cpu():
    module = nn.Linear(4, 2)
    X = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    for last in (lambda Z: Z.cpu(), lambda Z: Z.cpu() if len(Z) == 3 else Z):
        wrapped = Returning(lambda x, last=last: last(x @ module.weight.T.to(x.device)))
        np.testing.assert_allclose(
            TorchFeatureExtractor(wrapped, batch_size=3).transform(X),
            X @ module.weight.detach().numpy().T,
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.usefixtures("route")
def test_a_batch_too_large_for_the_device_is_halved(simulated):
    module = nn.Sequential(nn.Linear(4, 256), nn.ReLU(), nn.Linear(256, 3))
    X = np.random.default_rng(0).normal(size=(256, 4)).astype(np.float32)
    expected = TorchFeatureExtractor(module, device="cpu").transform(X)
    held = torch.accelerator.memory_allocated()
    simulated.set_cap(held + 100_000)  # 256 rows take 262,144 bytes, twice
    extractor = TorchFeatureExtractor(module, batch_size=256)
    np.testing.assert_allclose(extractor.transform(X), expected, rtol=1e-4, atol=1e-4)
    failures = torch.accelerator.memory_stats()["num_ooms"]
    assert 1 <= failures <= 8
    extractor.transform(X)
    assert torch.accelerator.memory_stats()["num_ooms"] == failures
