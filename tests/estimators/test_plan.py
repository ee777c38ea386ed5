"""A call is planned: which layers are read, and under which keys."""

import inspect
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sklearn_torch_bridge import (
    TorchFeatureExtractor,
    models,
    pooling,
    precompute,
)
from sklearn_torch_bridge._estimators._extractor_options import request_of
from sklearn_torch_bridge._estimators._plan import Plan
from sklearn_torch_bridge.pooling import POOLINGS
from tests.tiny_models import (
    Counting,
    Doubling,
    Tokens,
)


@pytest.mark.parametrize(
    ("layer", "factors"),
    [
        ("blocks.0", [2]),
        (["blocks.2", "blocks.0"], [8, 2]),
        ("blocks.*", [2, 4, 8]),
        (None, [8]),
    ],
    ids=str,
)
def test_layers_are_put_side_by_side_in_the_order_given(layer, factors):
    X = np.array([[1.0, 10.0], [3.0, 30.0]])
    Z = TorchFeatureExtractor(Doubling(3), layer=layer).transform(X)
    np.testing.assert_array_equal(Z, np.hstack([X * factor for factor in factors]))


def test_the_forward_stops_after_the_last_layer():
    counting = Counting()
    module = nn.Sequential(nn.Linear(4, 2), counting)
    TorchFeatureExtractor(module, layer="0").transform(np.ones((3, 4)))
    assert counting.tally.rows == 0


def planned(model, **options):
    return Plan(request_of(TorchFeatureExtractor(model, **options)))


def test_a_plan_with_plain_names_and_a_cache_needs_no_model(cache):
    """With a warm cache a worker does not even load the model."""
    plan = planned("hf:not here", layer=["a", "b:1"], cache=cache)
    assert plan.layers == ("a", "b:1")
    assert [reading.layer for reading in plan.readings] == ["a", "b:1"]
    assert "loaded" not in vars(plan)


def test_what_a_model_brings_is_read_but_is_no_part_of_keys():
    models.register(
        "brings", lambda _: models.LoadedModel(nn.Identity(), output="a", pooling="max")
    )
    plan = planned("brings:all")
    (asked,), (read,) = plan.readings, plan.readings_of_model()
    assert (asked.output, asked.pool) == (None, POOLINGS["auto"])
    assert (read.output, read.pool) == ("a", POOLINGS["max"])
    named = planned("brings:all", output="b", pooling="cls").readings_of_model()
    assert (named[0].output, named[0].pool) == ("b", POOLINGS["cls"])


def test_plans_that_differ_in_what_they_read_alone_share_a_pass(cache):
    module = Doubling(2)
    same = [{}, {"layer": "blocks.0"}, {"pooling": "max"}, {"batch_size": 4}]
    others = [{"dtype": "float64"}, {"on_error": "nan"}, {"cache_key": "b"}]
    plans = [planned(module, cache=cache, **options) for options in same + others]
    shared = [plan.shared_settings() for plan in plans]
    assert len(set(shared[: len(same)])) == 1
    assert len(set(shared)) == 1 + len(others)
    assert len({plan.setting() for plan in plans[:3]}) == 3
    joined = Plan(plans[0].request, [plan.request for plan in plans[1:3]])
    assert len(joined.readings) == 3


def test_a_plan_asks_what_the_model_takes_once(monkeypatch):
    asked = []
    signature = inspect.signature
    monkeypatch.setattr(
        inspect, "signature", lambda *args: asked.append(args) or signature(*args)
    )
    receiver = planned(Tokens()).receiver
    for _ in range(3):
        assert receiver.accepts.mask == "attention_mask"
        assert "input_ids" in receiver.accepts.names
    assert len(asked) == 1


class Growing(nn.Module):
    """Gives each row's tokens 1, 2 and 6 in two features."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Identity()

    def forward(self, x):
        return 2 * self.tokens(x[:, None] * torch.tensor([1.0, 2, 6])[:, None])


def brings_max_and_last(_):
    return models.LoadedModel(Growing(), pooling="max", layer_pooling="last")


MEAN_MAX_FIRST = {"mean": 3, pooling.mean: 3, "max": 6, "cls": 1}


@pytest.mark.parametrize("layer", [None, "tokens"])
@pytest.mark.parametrize("in_cache", [True, False], ids=["cache", "no cache"])
def test_a_name_means_itself_and_auto_what_the_model_brings(layer, in_cache, tmp_path):
    models.register("tokens", brings_max_and_last)
    X, times = np.ones((4, 2), np.float32), 1 if layer else 2
    asked = [*MEAN_MAX_FIRST, "auto", *MEAN_MAX_FIRST]
    for own in asked:
        extractor = TorchFeatureExtractor(
            "tokens:all",
            layer=layer,
            pooling=own,
            cache=tmp_path / "rows.db" if in_cache else None,
        )
        expected = times * MEAN_MAX_FIRST.get(own, 6)
        for same in (
            extractor,
            clone(extractor),
            pickle.loads(pickle.dumps(extractor)),  # noqa: S301 - our own
        ):
            assert same.get_params()["pooling"] == own
            assert np.all(same.transform(X) == expected)
            same.fit(X)
        if isinstance(own, str):
            folder = tmp_path / f"{own}{len(list(tmp_path.iterdir()))}"
            extractor.save(folder)
            assert TorchFeatureExtractor.load(folder).pooling == own
            assert np.all(TorchFeatureExtractor.load(folder).transform(X) == expected)


def test_a_search_over_auto_and_mean_is_precomputed_as_two(cache):
    models.register("tokens", brings_max_and_last)
    X = np.ones((4, 2), np.float32)
    extractor = TorchFeatureExtractor("tokens:all", cache=cache)
    pipe = make_pipeline(extractor, FunctionTransformer())
    search = GridSearchCV(
        pipe, {"torchfeatureextractor__pooling": ["auto", "mean", "max"]}, cv=2
    )
    done = precompute(search, X)
    assert (done.n_settings, done.n_passes) == (3, 1)
    found = [
        clone(extractor).set_params(pooling=name).transform(X)[0, 0]
        for name in ("auto", "mean", "max")
    ]
    assert found == [12, 6, 12]
    assert cache.stats()["hits"] == 3


def test_where_a_model_brings_nothing_auto_is_the_mean():
    X = np.ones((4, 2), np.float32)
    for layer in (None, "tokens"):
        auto, mean = (
            TorchFeatureExtractor(Growing(), layer=layer, pooling=name).transform(X)
            for name in ("auto", "mean")
        )
        np.testing.assert_array_equal(auto, mean)
