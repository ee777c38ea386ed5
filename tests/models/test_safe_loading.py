"""No file runs code when it is loaded."""

import importlib
import importlib.util
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.models._safe_loading import weights_only


class Planted:
    """Ends the process when it is loaded from a pickle that may run code."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a file was run')",))


@pytest.mark.skipif(
    torch.__version__ < (2, 13), reason="older archives have another layout"
)
def test_a_pickle_in_an_exported_program_is_not_run(exported, tmp_path):
    """A program whose weight was replaced by a pickle that runs code."""
    name, _ = exported
    source = name.removeprefix("export:")
    evil = tmp_path / "evil.pt2"
    torch.save(Planted(), tmp_path / "planted.pt")
    reader = torch._C.PyTorchFileReader(source)
    writer = torch._C.PyTorchFileWriter(str(evil))
    for entry in reader.get_all_records():
        content = bytes(reader.get_record(entry))
        if entry.endswith("model_weights_config.json"):
            config = json.loads(content)
            for payload in config["config"].values():
                payload["use_pickle"] = True
            content = json.dumps(config).encode()
        elif "/weights/weight_" in entry:
            content = (tmp_path / "planted.pt").read_bytes()
        if entry not in (".data/version", ".data/serialization_id", "byteorder"):
            writer.write_record(entry, content, len(content))
    writer.write_end_of_file()
    with pytest.raises(ValueError, match=r"must be a file that `torch.export.save`"):
        TorchFeatureExtractor(f"export:{evil}").transform(np.ones((1, 4)))


@pytest.mark.parametrize("prefix", ["timm", "torchvision"])
def test_a_pickle_for_a_library_is_not_run(prefix, tmp_path, monkeypatch):
    """Whatever it asks of `torch.load`: torchvision asks for all."""
    torch.save(Planted(), tmp_path / "planted.pt")

    def load(*_, **__):
        torch.load(tmp_path / "planted.pt", weights_only=False)

    models_of_it = SimpleNamespace(
        get_model_weights=lambda _: SimpleNamespace(DEFAULT=None),
        get_model_builder=lambda _: load,
    )
    library = SimpleNamespace(create_model=load, models=models_of_it)
    module = importlib.import_module(f"sklearn_torch_bridge.models._{prefix}")
    monkeypatch.setattr(module, "import_optional", lambda *_, **__: library)
    with pytest.raises(ValueError, match="Weights only load failed"):
        TorchFeatureExtractor(f"{prefix}:planted").transform(np.ones((1, 3, 8, 8)))


@pytest.mark.parametrize("before", [None, "0"], ids=str)
def test_the_setting_of_the_user_is_back_afterwards(before, monkeypatch):
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    monkeypatch.delenv(name, raising=False)
    if before is not None:
        monkeypatch.setenv(name, before)
    with weights_only(), weights_only():
        assert os.environ[name] == "1"
    assert os.environ.get(name) == before


def test_a_model_of_videos_says_how_it_is_run(monkeypatch):
    """As torchvision's r3d_18, whose transforms take frames."""

    def transforms():
        return lambda frames: frames.permute(1, 0, 2, 3)

    weights = SimpleNamespace(DEFAULT=SimpleNamespace(transforms=transforms))
    models_of_it = SimpleNamespace(
        get_model_weights=lambda _: weights,
        get_model_builder=lambda _: lambda **_: torch.nn.Linear(2, 2),
    )
    module = importlib.import_module("sklearn_torch_bridge.models._torchvision")
    real = module.import_optional
    monkeypatch.setattr(
        module,
        "import_optional",
        lambda name, **options: (
            SimpleNamespace(models=models_of_it)
            if name == "torchvision"
            else real(name, **options)
        ),
    )
    with pytest.raises(ValueError, match=r"must take images, .* Give the module"):
        TorchFeatureExtractor("torchvision:r3d").transform(np.ones((1, 3, 8, 8)))
