"""A partition has its result, or an error that names the row and travels anywhere."""

import os
import pickle
import platform
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sklearn_torch_bridge import PartitionError, TorchFeatureExtractor
from sklearn_torch_bridge.adapters import _parcel
from sklearn_torch_bridge.adapters._parcel import Reference, pack
from sklearn_torch_bridge.adapters._row_spec import RowSpec
from sklearn_torch_bridge.adapters._runner import Runner, keep_large_blocks
from tests.tiny_models import Counting, Failing, mlp

ONE_FLOAT = RowSpec((1,), np.dtype(np.float32))


def runner_of(extractor, spec=ONE_FLOAT):
    return Runner(Reference(extractor, pack(extractor)), "transform", spec)


@pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame], ids=["array", "frame"])
def test_the_result_is_that_of_the_estimator(rng, kind):
    X = kind(rng.normal(size=(7, 4)))
    extractor = TorchFeatureExtractor(mlp()).fit(X)
    runner = runner_of(extractor, RowSpec((3,), np.dtype(np.float32)))
    np.testing.assert_array_equal(
        runner.run(X, "the partition"), extractor.transform(X)
    )


def test_an_empty_partition_loads_no_model():
    class Unloadable(Reference):
        def open(self, prepare):
            raise AssertionError

    extractor = TorchFeatureExtractor(nn.Identity())
    runner = Runner(Unloadable(extractor, pack(extractor)), "transform", ONE_FLOAT)
    result = runner.run(np.empty((0, 1)), "the partition")
    assert (result.shape, result.dtype) == ((0, 1), np.float32)


@given(n_rows=st.integers(1, 40), data=st.data())
def test_the_first_row_that_fails_is_named_after_a_few_passes(n_rows, data):
    bad = data.draw(st.sets(st.integers(0, n_rows - 1), min_size=1))
    X = np.zeros((n_rows, 1))
    X[list(bad)] = 9
    model = Counting(Failing(5))
    extractor = TorchFeatureExtractor(model, batch_size=64).fit(np.zeros((1, 1)))
    model.tally.sizes.clear()
    with pytest.raises(
        PartitionError, match=rf"^row {min(bad)} of the partition failed: ForwardError"
    ):
        runner_of(extractor).run(X, "the partition")
    assert model.tally.rows <= 5 * n_rows


def test_rows_of_frames_are_found_by_their_place():
    X = pd.DataFrame({"a": [0.0, 0.0, 9.0, 0.0]}, index=[7, 7, 3, 0])
    runner = runner_of(TorchFeatureExtractor(Failing(5)).fit(X[:1]))
    with pytest.raises(PartitionError, match=r"^row 2 of the partition failed: .*boom"):
        runner.run(X, "the partition")


def test_a_result_of_another_width_is_a_failure_of_the_partition():
    runner = runner_of(TorchFeatureExtractor(nn.Identity()))
    with pytest.raises(PartitionError, match=r"^the partition failed: .*\(2, 1\)"):
        runner.run(np.ones((2, 5)), "the partition")


def test_the_error_travels_without_the_errors_of_the_model():
    """Their classes may be unknown where it is read."""

    class OfTheWorkerError(RuntimeError):
        pass

    extractor = TorchFeatureExtractor(Failing(5, OfTheWorkerError("local")))
    with pytest.raises(PartitionError) as caught:
        runner_of(extractor).run(np.full((2, 1), 9.0), "the partition")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "OfTheWorkerError: local" in caught.value.__notes__[0]
    found = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert str(found) == str(caught.value)


def test_a_runner_pickles_without_its_estimator(monkeypatch, rng):
    monkeypatch.setattr(_parcel, "_OPENED", type(_parcel._OPENED)())
    extractor = TorchFeatureExtractor(nn.Linear(600, 1))
    data = pickle.dumps(runner_of(extractor))
    large = pickle.dumps(runner_of(TorchFeatureExtractor(nn.Linear(600, 600))))
    assert len(large) < 2_000
    found = pickle.loads(data)  # noqa: S301 - our own bytes
    X = rng.normal(size=(3, 600))
    np.testing.assert_array_equal(found.run(X, "the partition"), extractor.transform(X))
    assert found.load() is found.load() is not extractor


# --- Memory of a worker: large blocks are had again without the system --------------

ON_GLIBC = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="these limits are glibc's"
)

FAULTS = """
import resource, sys
import numpy as np
from sklearn_torch_bridge.adapters._runner import keep_large_blocks

if sys.argv[1] == "kept":
    assert keep_large_blocks()
np.ones(1 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(1 << 20)  # 8 MB, 2,048 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    """Count pages fetched from the system by a process as Dask starts it."""
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"},
        capture_output=True,
        check=True,
    )
    return int(run.stdout)


@ON_GLIBC
def test_memory_of_a_large_array_is_had_again():
    assert faults("kept") < 0.1 * faults("as Dask has it")


@ON_GLIBC
def test_who_set_a_limit_keeps_it(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")
    assert not keep_large_blocks()


@ON_GLIBC
def test_nothing_is_done_where_no_limit_is_set(monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    assert not keep_large_blocks()
