import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import TensorToArray, TorchFeatureExtractor

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 has it")


class Recorded:
    """Writes down what it is told."""

    def __init__(self):
        self.events = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name))

    def teardown(self, estimator, context):
        self.events.append("teardown")


@pytest.fixture
def X(rng):
    return rng.normal(size=(250, 3))


def test_rows_are_told_of_in_steps_as_they_get_done(X):
    calls = Recorded()
    extractor = TorchFeatureExtractor(nn.ReLU(), batch_size=10).set_callbacks(calls)
    Z = extractor.fit_transform(X)
    assert Z.shape == (250, 3)
    assert calls.events[:2] == ["setup", ("begin", "fit")]
    assert calls.events[-2:] == [("end", "fit"), "teardown"]
    assert calls.events.count(("begin", "extract")) == 100
    assert calls.events.count(("end", "extract")) == 100


def test_fit_and_conversions_are_one_task(X):
    for estimator, rows in (
        (TorchFeatureExtractor(nn.ReLU()), X),
        (TensorToArray(), torch.tensor(X)),
    ):
        calls = Recorded()
        estimator.set_callbacks(calls).fit(rows)
        assert calls.events == ["setup", ("begin", "fit"), ("end", "fit"), "teardown"]


def test_callbacks_are_torn_down_after_a_failure(X):
    calls = Recorded()
    extractor = TorchFeatureExtractor(nn.Linear(9, 2)).set_callbacks(calls)
    with pytest.raises(RuntimeError, match="the model failed"):
        extractor.fit_transform(X)
    assert calls.events[-1] == "teardown"


def test_a_progress_bar_of_a_pipeline_shows_our_rows(X, capsys):
    """And does not warn that we do not support callbacks, which would be an error."""
    pytest.importorskip("rich", reason="scikit-learn's ProgressBar draws with rich")
    pipe = make_pipeline(
        TensorToArray(), TorchFeatureExtractor(nn.ReLU()), LogisticRegression()
    )
    pipe.set_callbacks(callback.ProgressBar())
    pipe.fit(torch.tensor(X), np.arange(250) % 2)
    shown = capsys.readouterr().out
    assert "TorchFeatureExtractor" in shown
