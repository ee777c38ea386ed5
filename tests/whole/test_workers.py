"""What joblib's workers are sent, what they hold, and what they may do with it."""

import os
import pickle
import sys
import threading
import warnings

import joblib
import numpy as np
import psutil
import pytest
import torch
from joblib import _memmapping_reducer as memmapping
from joblib.externals.loky.backend import queues
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from tests.tiny_models import mlp

ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="psutil tells private memory on Linux alone"
)


def two_layers():
    """Return a module with large and with small weights."""
    return nn.Sequential(nn.Linear(600, 600), nn.Linear(600, 3))


@pytest.fixture
def sent(monkeypatch):
    """Count the bytes of each task that joblib sends."""
    sizes = []
    dumps = queues.dumps

    def counting(obj, **options):
        data = dumps(obj, **options)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(queues, "dumps", counting)
    return sizes


@pytest.fixture
def sum_of_weights():
    """Return a function for workers; a local one is sent as it is, not by its name."""

    def read_and_write(extractor):
        with warnings.catch_warnings(action="error"):
            model = extractor.model
        total = float(sum(p.detach().double().sum() for p in model.parameters()))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return total, float(sum(p.detach().sum() for p in model.parameters()))

    return joblib.delayed(read_and_write)


def test_workers_may_write_to_weights_and_none_hears_of_another(sum_of_weights):
    module = two_layers()
    expected = sum(p.detach().double().sum().item() for p in module.parameters())
    extractor = TorchFeatureExtractor(module)
    tasks = [sum_of_weights(extractor) for _ in range(6)]
    for before, after in joblib.Parallel(n_jobs=2)(tasks):
        assert before == pytest.approx(expected, abs=1e-9)
        assert after == 0
    assert (
        sum(p.detach().double().sum().item() for p in module.parameters()) == expected
    )


def test_an_edit_between_two_calls_reaches_the_workers(sum_of_weights):
    """joblib writes an array once for as long as its workers are held."""
    module = two_layers()
    with joblib.Parallel(n_jobs=2) as parallel, torch.no_grad():
        for value in (1.0, 2.0):
            module[0].weight.data.fill_(value)
            module[1].bias.data.fill_(value)
            extractor = TorchFeatureExtractor(module)
            rest = module[0].bias.sum() + module[1].weight.sum()
            expected = value * (600 * 600 + 3) + rest.item()
            found = parallel([sum_of_weights(extractor)] * 2)
            assert [total for total, _ in found] == pytest.approx([expected] * 2)


def test_an_error_of_pickling_reaches_the_caller(sum_of_weights):
    module = mlp()
    module.lock = threading.Lock()
    extractor = TorchFeatureExtractor(module)
    with pytest.raises(pickle.PicklingError) as caught:
        joblib.Parallel(n_jobs=2)([sum_of_weights(extractor)] * 2)
    assert "Give a callable that builds it" in str(caught.value.__cause__)


def search(extractor, X, **options):
    grid = {"logisticregression__C": [0.1, 1, 10]}
    pipe = make_pipeline(extractor, LogisticRegression())
    searching = GridSearchCV(pipe, grid, cv=2, error_score="raise", **options)
    return searching.fit(X, np.arange(len(X)) % 2)


@pytest.fixture
def mapped(monkeypatch, tmp_path):
    """Count the bytes of each array that joblib writes to a file for its workers."""
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tmp_path))
    sizes = []
    dump = memmapping.dump

    def counting(array, path):
        sizes.append(array.nbytes)
        return dump(array, path)

    monkeypatch.setattr(memmapping, "dump", counting)
    yield sizes
    assert not [*tmp_path.rglob("*.pkl")]


def test_a_task_of_a_search_is_small(sent, mapped, minilm, tokenizer, texts):
    """The weights are 91 MB, the tokenizer 0.9 MB."""
    extractor = TorchFeatureExtractor(minilm, preprocess=tokenizer)
    found = search(extractor, texts, n_jobs=2)
    tasks = [size for size in sent if size > 1_000]
    assert len(tasks) == 6
    assert max(tasks) <= 1_000_000
    weights = sum(weight.nbytes for weight in minilm.parameters())
    assert weights <= sum(mapped) <= 1.001 * weights  # one copy for all tasks
    expected = search(extractor, texts, n_jobs=1)
    np.testing.assert_allclose(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )


@ON_LINUX
def test_workers_hold_no_weights_of_their_own():
    """Pages of a file are shared; those written to would be the worker's own."""

    def own_bytes(extractor):
        extractor.transform(np.ones((4, extractor.model.in_features)))
        maps = psutil.Process().memory_maps(grouped=True)
        return os.getpid(), sum(one.anonymous for one in maps)

    def in_workers(module):
        task = joblib.delayed(own_bytes)(TorchFeatureExtractor(module))
        return parallel([task] * 8)

    module = nn.Linear(4_000, 4_000)  # 64 MB
    with joblib.Parallel(n_jobs=2) as parallel:
        idle = dict(in_workers(nn.Linear(4, 4)))
        busy = in_workers(module)
    assert {pid for pid, _ in busy} <= set(idle)
    assert max(n - idle[pid] for pid, n in busy) <= 0.3 * module.weight.nbytes
