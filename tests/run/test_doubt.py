"""What fails alike on rows from all over is wrong for all, and said after a few."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    ForwardError,
    OutputError,
    TorchFeatureExtractor,
    precompute,
)
from tests.tiny_models import Counting, Returning

ADVICE = "none passed"


def refuse(*_):
    msg = "boom"
    raise RuntimeError(msg)


def run_out(_):
    raise MemoryError


class Bypassing(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Identity()

    def forward(self, x):
        return x


# What is wrong with all rows: the model, the options, and what is raised.
WRONG = {
    "output": (lambda x: {"b": x}, {"output": "a"}, OutputError),
    "no tensor": (lambda x: str(len(x)), {}, TypeError),
    "pooling": (lambda x: x, {"pooling": refuse}, RuntimeError),
    "forward": (refuse, {}, ForwardError),
    "dtype": (lambda x: x + 1e6, {"dtype": "float16"}, ValueError),
    "preprocess": (lambda x: x, {"preprocess": refuse}, ForwardError),
    "memory": (run_out, {}, ForwardError),
}


@pytest.mark.parametrize("settings", [{}, {"num_workers": 2}], ids=["plain", "ahead"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_for_all_rows_is_said_after_a_few(wrong, settings):
    forward, options, kind = WRONG[wrong]
    model = Counting(Returning(forward))
    X = [np.full(3, row, np.float32) for row in range(500)]
    extractor = TorchFeatureExtractor(model, on_error="nan", **options, **settings)
    with pytest.raises(kind, match=ADVICE):
        extractor.transform(X)
    at_once = 1 + settings.get("num_workers", 0)  # batches that are halved side by side
    assert len(model.tally.sizes) <= 6 * at_once + 10
    model.tally.sizes.clear()
    if wrong != "dtype":  # the first row fits
        with pytest.raises(kind, match=ADVICE):
            extractor.fit(X)
    assert len(model.tally.sizes) <= 8


@pytest.mark.parametrize("method", ["to_file", "precompute"])
def test_it_is_said_of_files_and_caches_too(tmp_path, method):
    model = Counting()
    extractor = TorchFeatureExtractor(
        model, on_error="nan", output="a", cache=tmp_path / "rows.db"
    )
    X = np.arange(500.0)[:, None]
    run = {
        "to_file": partial(extractor.transform_to_file, path=tmp_path / "Z.npy"),
        "precompute": partial(precompute, extractor),
    }
    with pytest.raises(OutputError, match=ADVICE):
        run[method](X)
    assert len(model.tally.sizes) <= 15


def test_a_layer_that_never_runs_is_said_after_a_few():
    model = Counting(Bypassing())
    extractor = TorchFeatureExtractor(model, on_error="nan", layer="inner.unused")
    with pytest.raises(ValueError, match=ADVICE):
        extractor.transform(np.zeros((500, 2)))
    assert len(model.tally.sizes) <= 10


# What is wrong with some rows: those below 0.
def refuse_some(x, *_):
    if bool((x < 0).any()):
        refuse()
    return x


def other_output(x):
    return {"b": x} if bool((x < 0).any()) else {"a": x, "b": x}


def parse(rows):
    return refuse_some(torch.tensor([[float(row)] for row in rows]))


SOME = {
    "forward": (refuse_some, {}),
    "pooling": (lambda x: x, {"pooling": refuse_some}),
    "output": (other_output, {"output": "a"}),
    "no tensor": (lambda x: None if bool((x < 0).any()) else x, {}),
    "preprocess": (lambda x: x, {"preprocess": parse}),
    "width": (lambda x: x.repeat(1, 2) if bool((x < 0).any()) else x, {}),
    "dtype": (lambda x: x * 1e4, {"dtype": "float16"}),
}


@pytest.mark.parametrize("first", [32, 150])
@pytest.mark.parametrize("some", SOME)
def test_many_bad_rows_in_front_do_not_end_the_run(some, first):
    if some == "width":
        pytest.skip("the first rows decide what is another width")
    forward, options = SOME[some]
    x = np.arange(1.0, 201)
    if some == "dtype":
        x = x / 200 + 1
    x[:first] *= -1000
    X = [str(value) for value in x] if some == "preprocess" else x[:, None]
    extractor = TorchFeatureExtractor(Returning(forward), on_error="nan", **options)
    with pytest.warns(BadRowWarning, match=f"rows 0 to {first - 1} of"):
        Z = extractor.transform(X)
    assert np.flatnonzero(np.isnan(Z[:, 0])).tolist() == list(range(first))


@pytest.mark.parametrize("bad", [1, 40, 99])
@pytest.mark.parametrize("some", SOME)
def test_one_bad_row_is_alone_in_being_bad(some, bad):
    forward, options = SOME[some]
    x = np.ones(100)
    x[bad] = -1000
    X = [str(value) for value in x] if some == "preprocess" else x[:, None]
    model = Counting(Returning(forward))
    extractor = TorchFeatureExtractor(
        model, on_error="nan", batch_size=32 if some != "width" else 1, **options
    )
    with pytest.warns(BadRowWarning, match=f"row {bad} of"):
        Z = extractor.transform(X)
    assert np.flatnonzero(np.isnan(Z[:, 0])).tolist() == [bad]


def test_a_batch_of_another_width_is_only_its_odd_rows():
    X = np.ones((100, 1))
    X[40] = -1
    forward = SOME["width"][0]
    extractor = TorchFeatureExtractor(Returning(forward), on_error="nan")
    with pytest.warns(BadRowWarning, match="row 40 of"):
        Z = extractor.transform(X)
    assert np.flatnonzero(np.isnan(Z[:, 0])).tolist() == [40]


def test_rows_that_fail_in_their_own_ways_are_all_tried():
    def forward(x):
        if len(x) == 1 and float(x) == 77:
            return x
        msg = "abc"[int(x[0, 0]) % 3]
        raise RuntimeError(msg)

    extractor = TorchFeatureExtractor(Returning(forward), on_error="nan")
    with pytest.warns(BadRowWarning, match="99 rows"):
        Z = extractor.transform(np.arange(100.0)[:, None])
    assert np.flatnonzero(~np.isnan(Z[:, 0])).tolist() == [77]


def test_after_a_fit_each_row_is_tried():
    model = Counting(Returning(refuse_some))
    extractor = TorchFeatureExtractor(model, on_error="nan").fit([[1.0]])
    with pytest.warns(BadRowWarning, match="rows 0 to 49 of"):
        Z = extractor.transform(np.full((50, 1), -1.0))
    assert np.isnan(Z).all()


def test_after_a_fit_memory_is_still_doubted():
    model = Counting(
        Returning(lambda x: x if float(x.max()) == 1 else run_out(x)),
    )
    extractor = TorchFeatureExtractor(model, on_error="nan").fit([[1.0]])
    model.tally.sizes.clear()
    with pytest.raises(ForwardError, match="with this row alone"):
        extractor.transform(np.zeros((500, 1)))
    assert len(model.tally.sizes) <= 10


def test_a_count_of_results_that_is_wrong_is_never_hidden_by_running_rows_alone():
    """By itself, each row would give one result: the mean of all, of which it is."""
    model = Returning(lambda x: x.mean(0, keepdim=True))
    extractor = TorchFeatureExtractor(model, on_error="nan")
    with pytest.raises(ValueError, match="one result per row"):
        extractor.transform(np.arange(50.0)[:, None])


NAMES = {
    "forward": "failed on row 21",
    "pooling": "output of row 21",
    "no tensor": "output of row 21",
    "preprocess": "failed on row 21",
    "width": "result of row 53",  # the first 32 decide what is another width
    "dtype": "result of row 21",
}


@pytest.mark.parametrize("some", NAMES)
def test_an_error_names_its_row_after_few_more_forwards(some):
    forward, options = SOME[some]
    x = np.ones(64)
    x[53 if some == "width" else 21] = -1000
    X = [str(value) for value in x] if some == "preprocess" else x[:, None]
    model = Counting(Returning(forward))
    extractor = TorchFeatureExtractor(model, **options)
    with pytest.raises(Exception, match=NAMES[some]):
        extractor.transform(X)
    assert len(model.tally.sizes) <= 2 + 2 * np.log2(32)


def test_rows_that_fail_only_together_are_named_together():
    def forward(x):
        if len(x) > 8:
            msg = "too many"
            raise RuntimeError(msg)
        return x

    words = r"(?s)failed on rows 0 to 15, .* too many.*half of these rows passed"
    with pytest.raises(ForwardError, match=words):
        TorchFeatureExtractor(Returning(forward)).transform(np.zeros((64, 1)))


def test_where_halves_run_out_of_memory_the_whole_batch_is_named():
    def forward(x):
        if len(x) < 32:
            raise MemoryError
        return refuse(x)

    with pytest.raises(ForwardError, match=r"failed on rows 0 to 31, .* boom"):
        TorchFeatureExtractor(Returning(forward)).transform(np.zeros((64, 1)))


def test_a_row_that_fails_otherwise_ends_the_doubt():
    def forward(x):
        if len(x) == 1 and float(x) == 55:
            return x
        msg = "a" if float(x[0, 0]) < 10 else "b"
        raise RuntimeError(msg)

    extractor = TorchFeatureExtractor(Returning(forward), on_error="nan")
    with pytest.warns(BadRowWarning, match="99 rows"):
        Z = extractor.transform(np.arange(100.0)[:, None])
    assert np.flatnonzero(~np.isnan(Z[:, 0])).tolist() == [55]
