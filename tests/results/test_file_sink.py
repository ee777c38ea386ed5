"""`transform_to_file`: resumed after a kill, refused where it is another's."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    FingerprintError,
    ForwardError,
    TorchFeatureExtractor,
)
from tests.processes import run_code
from tests.tiny_models import Counting, Doubling, Failing, Returning, Tally, Tokens, mlp


@pytest.fixture
def X(rng):
    return rng.normal(size=(50, 4)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "Z.npy"


def names(path):
    return sorted(one.name for one in path.parent.iterdir())


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"layer": ["act", "first"]},
        {"dtype": "float64"},
        {"dtype": None},
        {"batch_size": "auto", "device": ["cpu", "cpu"]},
    ],
    ids=str,
)
def test_the_file_holds_what_transform_returns(X, path, parameters):
    extractor = TorchFeatureExtractor(mlp(), batch_size=7).set_params(**parameters)
    Z = extractor.transform_to_file(X, path)
    expected = extractor.transform(X)
    np.testing.assert_array_equal(Z, expected, strict=True)
    np.testing.assert_array_equal(np.load(path), expected, strict=True)
    assert isinstance(Z, np.memmap)
    assert not Z.flags.writeable
    assert names(path) == ["Z.npy", "Z.npy.progress"]
    assert path.with_name("Z.npy.progress").stat().st_size == 512 + 8 * 50


def test_texts_land_in_the_callers_order(tokenizer, texts, path):
    extractor = TorchFeatureExtractor(Tokens(), preprocess=tokenizer, batch_size=3)
    Z = extractor.transform_to_file(pd.Series(texts), path)
    np.testing.assert_array_equal(Z, extractor.transform(texts))


def test_axes_stay_without_pooling(rng, path):
    X = rng.normal(size=(5, 3, 4)).astype(np.float32)
    Z = TorchFeatureExtractor(nn.ReLU(), pooling=None).transform_to_file(X, path)
    np.testing.assert_array_equal(Z, X.clip(0))


def test_a_finished_file_is_returned_at_once(X, path):
    counting = Counting()
    extractor = TorchFeatureExtractor(counting)
    extractor.transform_to_file(X, path)
    again = extractor.set_params(batch_size=3).transform_to_file(X.copy(), path)
    np.testing.assert_array_equal(again, X)
    assert counting.tally.rows == 50


@pytest.mark.parametrize("layer", [None, ["0.inner", "1"]], ids=str)
def test_an_interrupted_run_goes_on_where_it_stopped(X, path, layer):
    X[33, 0] = 50
    counting = Counting()
    limit = Tally()
    limit.most = 40
    module = nn.Sequential(counting, Returning(Limited(limit)))
    extractor = TorchFeatureExtractor(module, batch_size=8, layer=layer)
    with pytest.raises(ForwardError, match="on row 33"):
        extractor.transform_to_file(X, path)
    assert names(path) == ["Z.npy.part", "Z.npy.progress"]
    limit.most = 99
    counting.tally.sizes.clear()
    Z = extractor.transform_to_file(X, path)
    np.testing.assert_array_equal(Z, extractor.transform(X))
    assert counting.tally.sizes[:3] == [8, 8, 2]


class Limited:
    """Fails above a limit that replicas share, and that is no part of the model."""

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, x):
        if float(x.max()) > self.limit.most:
            msg = "boom"
            raise RuntimeError(msg)
        return x

    def __reduce__(self):
        return (Limited, ())


@pytest.mark.faults
def test_rows_that_lost_their_bytes_are_run_again(X, path):
    """As after a power cut: marked as finished, but never written."""
    counting = Counting(Doubling(2))
    extractor = TorchFeatureExtractor(counting, batch_size=10)
    extractor.transform_to_file(X, path)
    part, progress = path.with_suffix(".npy.part"), path.with_suffix(".npy.progress")
    path.rename(part)
    marks = np.memmap(progress, np.uint64, "r+", offset=512, shape=50)
    rows = np.load(part, mmap_mode="r+")
    rows[7] = 0
    rows[20, 1] += 1
    marks[31] = 0
    del rows, marks
    counting.tally.sizes.clear()
    Z = extractor.transform_to_file(X, path)
    np.testing.assert_array_equal(Z, 4 * X)
    assert counting.tally.rows == 3


@pytest.mark.faults
def test_a_file_is_on_the_disk_before_it_has_its_name(X, path, monkeypatch):
    """Else power lost right then would leave a file that looks whole."""
    events = []
    flush, replace = np.memmap.flush, Path.replace

    def spy_flush(memory):
        events.append(Path(memory.filename).name)
        flush(memory)

    def spy_replace(one, other):
        events.append((one.name, other.name))
        return replace(one, other)

    monkeypatch.setattr(np.memmap, "flush", spy_flush)
    monkeypatch.setattr(Path, "replace", spy_replace)
    TorchFeatureExtractor(mlp()).transform_to_file(X, path)
    assert events[-3:] == ["Z.npy.part", "Z.npy.progress", ("Z.npy.part", "Z.npy")]


@pytest.mark.parametrize("other", ["'<i4'", "'>f4'"])
def test_rows_of_another_dtype_are_run_again(X, path, other):
    """Their bytes are as marked; read so they would be other numbers."""
    extractor = TorchFeatureExtractor(mlp(), dtype=None)
    expected = np.array(extractor.transform_to_file(X, path))
    forged = path.read_bytes().replace(b"'<f4'", other.encode())
    path.unlink()
    path.with_suffix(".npy.part").write_bytes(forged)
    Z = extractor.transform_to_file(X, path)
    np.testing.assert_array_equal(Z, expected, strict=True)


@pytest.mark.parametrize("shape", ["(50, 6), ", "(50, 2), ", "(50, 3, 1),"])
def test_a_part_of_another_shape_is_made_anew(X, path, shape):
    extractor = TorchFeatureExtractor(mlp())
    expected = np.array(extractor.transform_to_file(X, path))
    forged = path.read_bytes().replace(b"(50, 3), ", shape.encode())
    path.unlink()
    part = path.with_suffix(".npy.part")
    part.write_bytes(forged)
    Z = extractor.transform_to_file(X, path)
    np.testing.assert_array_equal(Z, expected, strict=True)


DAMAGES = {
    "a bit": lambda raw: raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:],
    "cut": lambda raw: raw[:-4],
    "longer": lambda raw: raw + b"1234",
    "dtype": lambda raw: raw.replace(b"'<f4'", b"'<i4'"),
    "header": lambda raw: b"\0" + raw[1:],
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_finished_file_that_was_changed_is_no_answer(X, path, name):
    extractor = TorchFeatureExtractor(mlp())
    extractor.transform_to_file(X, path)
    damaged = DAMAGES[name](path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(FileExistsError, match="left it, and was changed since"):
        extractor.transform_to_file(X, path)
    assert path.read_bytes() == damaged


CHANGES = {
    "rows": ({}, lambda X: X + 1),
    "order": ({}, lambda X: X[::-1]),
    "fewer rows": ({}, lambda X: X[:-1]),
    "layer": ({"layer": "act"}, None),
    "dtype": ({"dtype": "float64"}, None),
    "weights": ({"model": mlp(seed=1)}, None),
    "pooling": ({"pooling": "flatten"}, None),
}


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "part"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_file_of_other_rows_or_settings_is_refused(X, path, name, finished):
    extractor = TorchFeatureExtractor(mlp())
    extractor.transform_to_file(X, path)
    if not finished:
        path.rename(path.with_suffix(".npy.part"))
    before = {one: one.read_bytes() for one in path.parent.iterdir()}
    parameters, change = CHANGES[name]
    with pytest.raises(FileExistsError, match="holds other rows, or was made with"):
        extractor.set_params(**parameters).transform_to_file(
            X if change is None else change(X), path
        )
    assert {one: one.read_bytes() for one in path.parent.iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"something else"])
def test_a_file_that_is_not_ours_is_left_alone(X, path, content):
    path.write_bytes(content)
    with pytest.raises(FileExistsError, match="was not made by `transform_to_file`"):
        TorchFeatureExtractor(mlp()).transform_to_file(X, path)
    assert path.read_bytes() == content
    assert names(path) == ["Z.npy"]


@pytest.mark.parametrize("suffix", ["", ".part", ".progress"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_an_error_and_no_end_of_waiting(X, path, suffix, make):
    make(path.with_suffix(f".npy{suffix}"))
    with pytest.raises(FileExistsError, match="must be free, or a file, and is someth"):
        TorchFeatureExtractor(mlp()).transform_to_file(X, path)


@pytest.mark.parametrize("left", [b"", b"{", b'{"format"' + b" " * 700])
def test_progress_of_a_file_that_is_gone_is_no_obstacle(X, path, left):
    path.with_suffix(".npy.progress").write_bytes(left)
    extractor = TorchFeatureExtractor(mlp())
    Z = extractor.transform_to_file(X, path)
    np.testing.assert_array_equal(Z, extractor.transform(X))


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None], ids=["empty", "cut", "x"])
def test_a_damaged_part_is_made_anew(X, path, damage):
    extractor = TorchFeatureExtractor(mlp())
    extractor.transform_to_file(X, path)
    part = path.with_suffix(".npy.part")
    path.rename(part)
    part.write_bytes(part.read_bytes()[:200] if damage is None else damage)
    Z = extractor.transform_to_file(X, path)
    np.testing.assert_array_equal(Z, extractor.transform(X))


def test_bad_rows_are_tried_again_and_then_nan(X, path):
    X[5, 0] = 50
    module = nn.Sequential(Counting(), Failing(40))
    extractor = TorchFeatureExtractor(module, on_error="nan", batch_size=8)
    with pytest.warns(BadRowWarning, match="row 5 of"):
        Z = extractor.transform_to_file(X, path)
    assert np.flatnonzero(np.isnan(Z).any(1)).tolist() == [5]
    again = extractor.transform_to_file(X, path)
    np.testing.assert_array_equal(again, Z)


@pytest.mark.faults
def test_two_runs_do_not_write_one_file(X, path):
    extractor = TorchFeatureExtractor(mlp())
    seen = []

    def nested(x):
        if not seen:
            seen.append(1)
            with pytest.raises(FileExistsError, match="is being written by another"):
                outer.transform_to_file(X, path)
        return x

    outer = TorchFeatureExtractor(Returning(nested), cache_key="nested")
    outer.transform_to_file(X, path)
    assert seen
    with pytest.raises(FileExistsError, match="other rows, or was made with other"):
        extractor.transform_to_file(X, path)


def test_what_cannot_be_identified_asks_for_a_key(X, path):
    with path.with_suffix(".log").open("w") as log:
        module = Returning(lambda x: x + log.tell())
        extractor = TorchFeatureExtractor(module)
        with pytest.raises(FingerprintError, match="cache_key"):
            extractor.transform_to_file(X, path)
        extractor.set_params(cache_key="1")
        np.testing.assert_array_equal(extractor.transform_to_file(X, path), X)


def test_a_file_needs_a_row_and_a_folder(X, path):
    extractor = TorchFeatureExtractor(mlp())
    with pytest.raises(ValueError, match="must hold a row"):
        extractor.transform_to_file(X[:0], path)
    with pytest.raises(FileNotFoundError, match=r"in a folder that exists.*nowhere"):
        extractor.transform_to_file(X, path.parent / "nowhere" / "Z.npy")


@pytest.mark.faults
def test_a_disk_that_is_too_small_is_an_error_before_the_work(path):
    resource = pytest.importorskip("resource", reason="limits of POSIX systems")
    process = multiprocessing.get_context("fork").Process(
        target=_run_with_small_files, args=(resource, path)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0


def _run_with_small_files(resource, path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    counting = Counting(Returning(lambda x: x.repeat(1, 1_000)))
    extractor = TorchFeatureExtractor(counting, batch_size=5)
    with pytest.raises(OSError, match="File too large"):
        extractor.transform_to_file(np.ones((1_000, 4)), path)
    assert counting.tally.rows == 5
    os._exit(0)


KILLED = """
import os, signal, sys
import numpy as np, torch
from torch import nn
from sklearn_torch_bridge import TorchFeatureExtractor

path, log, fatal = sys.argv[1:]
os.environ["LEFT"] = fatal  # no part of the model, to which this is a clock

class Logged(nn.Module):
    def forward(self, x):
        os.environ["LEFT"] = str(int(os.environ["LEFT"]) - 1)
        if os.environ["LEFT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        with open(log, "a") as file:
            file.write("".join(f"{int(row)} " for row in x[:, 0]))
        return x * 2

X = np.arange(300.0)[:, None]
extractor = TorchFeatureExtractor(Logged(), batch_size=7, cache_key="logged")
extractor.transform_to_file(X, path)
"""


@pytest.mark.faults
def test_killed_ten_times_the_file_is_right_and_no_finished_row_ran_twice(
    path, tmp_path
):
    if not hasattr(signal, "SIGKILL"):
        pytest.skip("needs SIGKILL, which this platform lacks")
    log = tmp_path / "log"
    log.touch()
    for fatal in (1, 2, 3, 4, 5, 3, 2, 5, 4, 3, 10_000):
        run = run_code(KILLED, path, log, fatal)
        expected = 0 if fatal == 10_000 else -signal.SIGKILL
        assert run.returncode == expected, run.stderr
        assert path.exists() == (fatal == 10_000)
    np.testing.assert_array_equal(np.load(path)[:, 0], 2 * np.arange(300.0))
    ran = [int(row) for row in log.read_text().split()]
    assert sorted(ran) == list(range(300))
