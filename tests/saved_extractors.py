"""Extractors saved in folders, and what tests do to these."""

import json

import torch

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._storing import _saved_folder
from sklearn_torch_bridge._storing._saved_folder import CONFIG
from tests.tiny_models import mlp
from tests.zoo import named

__all__ = ["LOAD", "assert_same_values", "build", "edit", "saved"]


LOAD = TorchFeatureExtractor.load


def build():
    """Be a factory, of other values each time."""
    return mlp(seed=torch.seed())


def saved(folder, model=None, **options):
    extractor = TorchFeatureExtractor(model or mlp(), **options)
    extractor.save(folder)
    return extractor


def edit(folder, *, honest=False, **changes):
    """Change settings; honestly, so that their digest is right again."""
    config = json.loads((folder / CONFIG).read_text())
    config |= changes
    if honest:
        config["digest"] = _saved_folder._digest(config)
    (folder / CONFIG).write_text(json.dumps(config))


def assert_same_values(found, module):
    expected, ours = dict(named(module)), dict(named(found))
    assert list(ours) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0, msg=name)
