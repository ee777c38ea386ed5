import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, share
from tests.tiny_models import mlp


@pytest.mark.parametrize(
    "copied", [clone, copy.copy, copy.deepcopy, share], ids=lambda f: f.__name__
)
def test_a_copy_of_a_handle_is_the_handle(copied):
    handle = share(mlp())
    assert copied(handle) is handle


def test_a_deep_copy_of_what_holds_a_handle_shares_the_module():
    extractor = TorchFeatureExtractor(share(mlp()))
    assert copy.deepcopy(extractor).model is extractor.model


def test_handles_are_equal_where_the_module_is_the_same():
    module, other = mlp(), mlp()
    assert share(module) == share(module)
    assert share(module) != share(other)
    assert share(module) != module
    assert len({share(module), share(module), share(other)}) == 2


def test_the_text_form_is_short():
    assert repr(share(nn.Linear(100, 20))) == "share(Linear with 2,020 parameters)"


@pytest.mark.parametrize("model", ["hf:x", mlp, None], ids=["str", "function", "None"])
def test_only_modules_need_a_handle(model):
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got"):
        share(model)


def test_a_handle_works_as_its_module(rng):
    module, X = mlp(), rng.normal(size=(5, 4))
    for layer in (None, "first", ["first", "act"]):
        direct = TorchFeatureExtractor(module, layer=layer).fit(X)
        handed = TorchFeatureExtractor(share(module), layer=layer).fit(X)
        np.testing.assert_array_equal(handed.transform(X), direct.transform(X))


def test_a_sentence_transformer_may_be_shared(minilm_path, texts):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(minilm_path, device="cpu")
    handed = TorchFeatureExtractor(share(model)).transform(texts)
    np.testing.assert_array_equal(handed, TorchFeatureExtractor(model).transform(texts))


def test_a_handle_pickles_with_its_module_once():
    module = nn.Linear(600, 600)
    handles = [share(module), share(module), TorchFeatureExtractor(module)]
    data = pickle.dumps(handles)
    assert len(data) < 1.01 * module.weight.nbytes
    first, second, extractor = pickle.loads(data)  # noqa: S301 - our own bytes
    assert first == second
    assert first.module is extractor.model is not module
    assert torch.equal(first.module.weight, module.weight)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_grid_of_models_gives_what_each_gives(rng, n_jobs):
    X = rng.normal(size=(20, 4))
    y = (X[:, 0] > 0).astype(int)
    models = [share(mlp(seed=seed)) for seed in range(3)]
    pipe = make_pipeline(TorchFeatureExtractor(models[0]), LogisticRegression())
    grid = {"torchfeatureextractor__model": models}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=n_jobs, error_score="raise")
    found = search.fit(X, y).cv_results_["mean_test_score"]
    for model, score in zip(models, found, strict=True):
        one = clone(pipe).set_params(torchfeatureextractor__model=model.module)
        alone = GridSearchCV(one, {}, cv=2).fit(X, y)
        assert score == pytest.approx(alone.best_score_)
    assert search.best_params_["torchfeatureextractor__model"] in models


def test_a_search_in_one_process_copies_no_weights(rng, monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(nn.Parameter, "__deepcopy__", refuse)
    X = rng.normal(size=(12, 4))
    models = [share(mlp(seed=seed)) for seed in range(2)]
    pipe = make_pipeline(TorchFeatureExtractor(models[0]), LogisticRegression())
    grid = {"torchfeatureextractor__model": models}
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise")
    search.fit(X, np.arange(12) % 2)
    assert search.best_params_["torchfeatureextractor__model"] in models
    with pytest.raises(AssertionError):
        clone(models[0].module, safe=False)
