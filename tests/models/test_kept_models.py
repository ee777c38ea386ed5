import gc
import weakref

import pytest
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, models
from sklearn_torch_bridge.models import _kept_models
from sklearn_torch_bridge.models._load_model import load_model


@pytest.mark.usefixtures("own_registry")
class TestKept:
    @pytest.fixture(autouse=True)
    def _loads(self):
        self.loads = []

        def load(name):
            self.loads.append(name)
            return nn.Linear(2, 2)

        models.register("tiny", load)

    def use(self, name):
        TorchFeatureExtractor(f"tiny:{name}").transform([[1.0, 2]])

    def test_models_that_nobody_uses_are_freed(self):
        watched = []
        for name in range(12):
            self.use(name)
            module = load_model(f"tiny:{name}").module
            watched.append(weakref.ref(module))
            del module
        gc.collect()
        alive = [one() is not None for one in watched]
        assert alive == [False] * 4 + [True] * 8

    def test_a_model_in_use_stays(self):
        held = load_model("tiny:held")
        for name in range(12):
            self.use(name)
        assert load_model("tiny:held") is held

    def test_the_models_used_last_stay(self):
        for name in [*range(8), 0, 8]:
            self.use(name)
        self.use(0)
        assert self.loads.count("0") == 1

    def test_large_models_make_room(self, monkeypatch):
        monkeypatch.setattr(_kept_models, "available_bytes", lambda: 100)
        self.use("a")
        self.use("b")
        self.use("a")
        assert self.loads == ["a", "b", "a"]
