"""The engine: bad rows, workers, devices, precision, batches by budget."""

import signal
import threading
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    ForwardError,
    TorchFeatureExtractor,
)
from sklearn_torch_bridge._run import _batch_loop
from sklearn_torch_bridge._run._failed_batches import release_memory
from tests.tiny_models import Counting, Doubling, Failing, Returning, Tokens

SAME = {"rtol": 1e-5, "atol": 1e-5}


# Bad rows ----------------------------------------------------------------------------


def limited(limit=40):
    return nn.Sequential(Counting(), Failing(limit))


@pytest.mark.parametrize(
    ("make", "bad"),
    [
        (lambda X: X, [2]),
        (torch.tensor, [2]),
        (pd.DataFrame, [2]),
        (lambda X: np.repeat(X[:, :, None, None], 3, axis=2), [2]),
    ],
    ids=["array", "tensor", "frame", "images"],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_never_reach_the_model(rng, make, bad, value):
    X = rng.normal(size=(6, 4))
    X[2, 1] = value
    module = Counting(nn.Flatten())
    extractor = TorchFeatureExtractor(module, on_error="nan", pooling="flatten")
    with pytest.warns(BadRowWarning, match=r"^row 2 of `X` could not be used"):
        Z = extractor.transform(make(X))
    assert np.flatnonzero(np.isnan(Z).any(1)).tolist() == bad
    assert module.tally.rows == 5


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, 3], ids=str)
def test_rows_that_are_no_text_become_nan(tokenizer, missing):
    extractor = TorchFeatureExtractor(Tokens(), preprocess=tokenizer, on_error="nan")
    texts = ["a b", missing, "c", "a b", missing]
    with pytest.warns(BadRowWarning, match="rows 1, 4 of `X`"):
        Z = extractor.transform(texts)
    expected = extractor.transform(["a b", "c", "a b"])
    np.testing.assert_allclose(Z[[0, 2, 3]], expected, **SAME)
    assert np.isnan(Z[[1, 4]]).all()


def test_fit_looks_for_a_row_that_can_be_used():
    extractor = TorchFeatureExtractor(limited(), on_error="nan")
    extractor.fit(np.array([[50.0, 1], [60, 1], [3, 1]]))
    assert extractor.get_feature_names_out().shape == (2,)


# Workers -----------------------------------------------------------------------------


# Devices -----------------------------------------------------------------------------


def test_rows_are_shared_out_among_devices(rng):
    X = rng.normal(size=(200, 4))
    met = threading.Barrier(2)
    seen = set()

    def forward(x):
        if threading.current_thread() not in seen:
            seen.add(threading.current_thread())
            met.wait(30)  # both are under way at once
        return x * 2

    extractor = TorchFeatureExtractor(
        Returning(forward), device=["cpu", "cpu"], batch_size=8
    )
    np.testing.assert_allclose(extractor.transform(X), X * 2, **SAME)
    assert len(seen) == 2


def test_an_error_on_one_device_ends_the_run():
    module = limited()
    X = np.zeros((4_000, 1))
    X[100] = 50
    extractor = TorchFeatureExtractor(module, device=["cpu", "cpu"], batch_size=4)
    with pytest.raises(ForwardError, match="failed on row 100"):
        extractor.transform(X)
    assert module[0].tally.rows < 4_000


def test_bad_rows_are_found_on_several_devices(rng):
    X = rng.normal(size=(300, 2))
    X[[7, 150, 299]] = 50
    extractor = TorchFeatureExtractor(
        limited(), device=["cpu", "cpu"], batch_size=16, on_error="nan"
    )
    with pytest.warns(BadRowWarning, match="rows 7, 150, 299 of"):
        Z = extractor.transform(X)
    assert np.flatnonzero(np.isnan(Z).any(1)).tolist() == [7, 150, 299]


# Precision ---------------------------------------------------------------------------


# Batches by budget -------------------------------------------------------------------


# Rows of different length ------------------------------------------------------------


def test_interruptions_of_one_device_end_the_others():
    module = Failing(-1, error=KeyboardInterrupt())
    extractor = TorchFeatureExtractor(module, device=["cpu", "cpu"], batch_size=1)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        extractor.transform(np.zeros((50, 1)))


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals")
def test_ctrl_c_ends_all_devices_soon():
    """The signal comes to the main thread, which only waits meanwhile."""

    class Interrupting(nn.Module):
        def forward(self, x):
            if x.any():
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            return x

    counting = Counting(Interrupting())
    extractor = TorchFeatureExtractor(counting, device=["cpu", "cpu"], batch_size=1)
    X = np.zeros((20_000, 1))
    X[100] = 1
    # Jobs in the background are started to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            extractor.transform(X)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 100 <= counting.tally.rows < 10_000
    assert len(extractor.transform(X[:3])) == 3


def test_depth_of_taps_goes_with_all_of_it(rng):
    X = rng.normal(size=(50, 3))
    X[7] = np.nan
    extractor = TorchFeatureExtractor(
        Doubling(4),
        layer=["blocks.2", "blocks.0"],
        device=["cpu", "cpu"],
        on_error="nan",
        batch_size="auto",
        num_workers=2,
    )
    with pytest.warns(BadRowWarning, match="row 7 of"):
        Z = extractor.transform(X)
    np.testing.assert_allclose(Z, np.hstack([8 * X, 2 * X]), **SAME)


def test_a_batch_that_did_not_fit_is_gone_once_memory_is_released(rng, monkeypatch):
    """Else the batch itself fills the memory that its halves are to have."""
    seen, left = [], []

    class Short(nn.Module):
        def forward(self, x):
            if len(x) > 2:
                seen.append(weakref.ref(x))
                msg = "no memory"
                raise torch.OutOfMemoryError(msg)
            return x

    def release(place):
        release_memory(place)
        left.extend(one() is not None for one in seen)

    monkeypatch.setattr(_batch_loop, "release_memory", release)
    X = rng.normal(size=(8, 3)).astype("float32")
    Z = TorchFeatureExtractor(Short(), batch_size=8).transform(X)
    np.testing.assert_array_equal(Z, X)
    assert left
    assert not any(left)
