import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import EmbeddingCache, ForwardError, TorchFeatureExtractor
from sklearn_torch_bridge.models import _torch_files
from tests.tiny_models import mlp

ABOUT_SCRIPT = pytest.mark.filterwarnings(
    # torch.jit is deprecated, and its users are still ours.
    "ignore:.*torch.jit"
)


SAME = {"rtol": 0, "atol": 1e-6}


@pytest.fixture
def silero():
    """Find a pretrained model for speech as TorchScript, which a package carries."""
    spec = importlib.util.find_spec("silero_vad")
    return Path(spec.submodule_search_locations[0], "data", "silero_vad.jit")


def windows(rows):
    """Stack windows of 32 ms, and add their rate."""
    return torch.from_numpy(np.stack(rows)), 16_000


@ABOUT_SCRIPT
def test_a_torchscript_file_gives_what_it_gives_by_hand(silero, rng):
    X = rng.normal(size=(6, 512)).astype("float32")
    expected = torch.jit.load(silero)(*windows(X)).detach().numpy()
    extractor = TorchFeatureExtractor(f"torchscript:{silero}", preprocess=windows)
    for _ in range(2):  # what it remembers of a run is forgotten
        np.testing.assert_allclose(extractor.transform(X), expected, rtol=1e-6)


@ABOUT_SCRIPT
def test_a_script_module_is_left_as_it_was(silero, rng):
    module = torch.jit.load(silero).train()
    X = rng.normal(size=(4, 512)).astype("float32")
    TorchFeatureExtractor(module, preprocess=windows).transform(X)
    assert module._c.getattr("_last_batch_size") == 0
    assert all(part.training for part in module.modules())


@ABOUT_SCRIPT
def test_no_layer_inside_a_script_can_be_read(silero, rng):
    extractor = TorchFeatureExtractor(
        f"torchscript:{silero}", preprocess=windows, layer="_model.encoder"
    )
    with pytest.raises(ValueError, match="must not name a scripted module or a part"):
        extractor.transform(rng.normal(size=(4, 512)).astype("float32"))


def test_an_exported_program_gives_what_its_module_gives(exported, rng):
    name, module = exported
    X = rng.normal(size=(7, 4))
    Z = TorchFeatureExtractor(name, batch_size=3).fit_transform(X)
    expected = TorchFeatureExtractor(module, batch_size=3).transform(X)
    np.testing.assert_allclose(Z, expected, **SAME)


def test_an_exported_program_of_one_batch_size_says_so(tmp_path, rng):
    program = torch.export.export(mlp().eval(), (torch.zeros(2, 4),))
    torch.export.save(program, tmp_path / "mlp.pt2")
    extractor = TorchFeatureExtractor(f"export:{tmp_path}/mlp.pt2", batch_size=2)
    assert extractor.transform(rng.normal(size=(4, 4))).shape[0] == 4
    with pytest.raises(ForwardError, match=r"on row 4, .* 2"):
        extractor.transform(rng.normal(size=(5, 4)))


@pytest.mark.parametrize("prefix", ["torchscript", "export"])
@ABOUT_SCRIPT
def test_a_flipped_bit_in_a_weight_is_an_error(prefix, exported, tmp_path):
    """torch reads it as another weight."""
    path = tmp_path / "mlp.pt2"
    module = exported[1]
    if prefix == "torchscript":
        torch.jit.save(torch.jit.script(module), path)
    raw = bytearray(path.read_bytes())
    place = raw.find(module.first.weight.detach().numpy().tobytes())
    assert place > 0
    raw[place + 3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"has written: its part .* is damaged"):
        TorchFeatureExtractor(f"{prefix}:{path}").transform(np.ones((1, 4)))


@pytest.mark.parametrize("prefix", ["torchscript", "export"])
@ABOUT_SCRIPT
def test_a_file_that_is_missing_or_another_is_named(prefix, tmp_path):
    X = np.ones((1, 4))
    with pytest.raises(ValueError, match="must name a file, and there is none"):
        TorchFeatureExtractor(f"{prefix}:{tmp_path}/gone.pt").transform(X)
    (tmp_path / "text.pt").write_text("no model")
    with pytest.raises(ValueError, match=r"must be a file that `torch\."):
        TorchFeatureExtractor(f"{prefix}:{tmp_path}/text.pt").transform(X)


@ABOUT_SCRIPT
def test_another_file_is_another_model_for_a_cache(tmp_path, rng):
    X = rng.normal(size=(3, 4)).astype("float32")
    path, store = tmp_path / "m.pt", EmbeddingCache(tmp_path / "e.db")
    extractor = TorchFeatureExtractor(f"torchscript:{path}", cache=store)
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = nn.Linear(4, 2)
        torch.jit.save(torch.jit.script(module), path)
        expected = module(torch.from_numpy(X)).detach().numpy()
        np.testing.assert_allclose(extractor.transform(X), expected, rtol=1e-5)


@ABOUT_SCRIPT
def test_an_operator_that_is_not_there_is_named(tmp_path):
    class Calling(nn.Module):
        def forward(self, x):
            return torch.ops.of_a_package.twice(x)

    library = torch.library.Library("of_a_package", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    torch.jit.save(torch.jit.script(Calling()), tmp_path / "m.pt")
    library._destroy()
    with pytest.raises(ValueError, match=r"needs an operator .*of_a_package.* Import"):
        TorchFeatureExtractor(f"torchscript:{tmp_path}/m.pt").transform(np.ones((1, 4)))


@pytest.mark.parametrize("prefix", ["torchscript", "export"])
def test_a_file_that_may_not_be_read_is_no_other_file(prefix, exported, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = exported[0].partition(":")[2]
    monkeypatch.setattr(_torch_files, "_check_sums", refuse)
    with pytest.raises(OSError, match=r"cannot be read: .*Permission denied"):
        TorchFeatureExtractor(f"{prefix}:{path}").transform(np.ones((1, 4)))
