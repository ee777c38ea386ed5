"""Rows put together from their windows, in whatever order these come."""

import numpy as np
import pytest
import torch

from sklearn_torch_bridge._results import ArraySink, JoinRule, Spans, WindowsSink
from sklearn_torch_bridge._row_numbers import describe_rows
from sklearn_torch_bridge._types import Tokens
from sklearn_torch_bridge.pooling import POOLINGS

COUNTS = np.array([2, 1, 3])
STARTS = np.array([0, 4, 0, 0, 4, 8])
STOPS = np.array([4, 6, 3, 4, 8, 9])
SPANS = (COUNTS, STARTS, STOPS)


class Refusing(ArraySink):
    """Refuses one row, once."""

    refuses = -1

    def write(self, rows, pieces):
        if self.refuses in rows:
            self.refuses = -1
            msg = "full"
            raise ValueError(msg)
        return super().write(rows, pieces)


def joined(values, batches, rule, sink=None):
    sink = sink or ArraySink(3, np.dtype("float32"))
    windows = WindowsSink(sink, Spans(*SPANS), [rule])
    n_done = [windows.write(np.array(rows), [values[rows]]) for rows in batches]
    return sink.array, n_done


@pytest.mark.parametrize(
    "batches", [[[0, 1, 2, 3, 4, 5]], [[5, 0], [2, 3], [1], [4]]], ids=str
)
def test_rows_are_written_once_all_windows_have_come(batches):
    values = torch.arange(6.0)[:, None]
    mean = [[(0 * 4 + 1 * 2) / 6], [2], [(3 * 4 + 4 * 4 + 5) / 9]]
    array, n_done = joined(values, batches, JoinRule(POOLINGS["mean"]))
    np.testing.assert_allclose(array, mean, rtol=1e-6)
    assert sum(n_done) == 3
    assert n_done[-1] >= 1
    array, _ = joined(-values, batches, JoinRule(POOLINGS["max"]))
    assert array.ravel().tolist() == [0, -2, -3]
    array, _ = joined(values, batches, JoinRule(POOLINGS["last"]))
    assert array.ravel().tolist() == [1, 2, 5]


def test_many_small_windows_are_summed_without_loss():
    n = 20_000
    spans = Spans(np.array([n]), np.arange(n) * 7, np.arange(n) * 7 + 7)
    sink = ArraySink(1, np.dtype("float32"))
    windows = WindowsSink(sink, spans, [JoinRule(POOLINGS["mean"])])
    values = torch.rand(n, 3, generator=torch.Generator().manual_seed(0)) + 1
    for start in range(0, n, 100):
        rows = np.arange(start, start + 100)
        windows.write(rows, [values[rows]])
    np.testing.assert_allclose(sink.array[0], values.double().mean(0), rtol=2e-7)


def test_windows_that_come_again_after_an_error_count_once():
    values = torch.arange(6.0)[:, None]
    sink = Refusing(3, np.dtype("float32"))
    sink.refuses = 2
    windows = WindowsSink(sink, Spans(*SPANS), [JoinRule(POOLINGS["mean"])])
    everything = np.arange(6)
    with pytest.raises(ValueError, match="full"):
        windows.write(everything, [values])
    for half in (everything[:3], everything[3:]):
        windows.write(half, [values[half]])
    np.testing.assert_allclose(sink.array[:, 0], [1 / 3, 2, 33 / 9], rtol=1e-6)


def test_tokens_are_put_end_to_end_and_shared_ones_once():
    spans = Spans(
        np.array([2, 1]),
        np.array([0, 2, 0]),
        np.array([3, 4, 1]),
        heads=np.array([1, 1, 1]),
        overlap=1,
    )
    kept = []

    class Sink(ArraySink):
        def write(self, rows, pieces):
            kept.append((rows.tolist(), pieces[0].values.tolist()))
            return len(rows)

    windows = WindowsSink(Sink(2, None), spans, [JoinRule(None)])
    tokens = torch.tensor([-1, 0, 1, 2, -2, 2, 3, -3, 9])
    windows.write(np.array([0, 1, 2]), [Tokens(tokens, [4, 3, 2])])
    assert kept == [([1], [-3, 9]), ([0], [-1, 0, 1, 2, -2, 3])]


def test_outputs_that_are_no_tokens_are_not_shared_in_silence():
    spans = Spans(*SPANS, overlap=1)
    windows = WindowsSink(ArraySink(3, None), spans, [JoinRule(None)])
    with pytest.raises(ValueError, match="5 outputs for a window of 4 values"):
        windows.write(np.array([3, 4]), [torch.zeros(2, 5, 1)])


def test_numbers_that_have_no_mean_are_refused():
    windows = WindowsSink(ArraySink(3, None), Spans(*SPANS), [JoinRule(None)])
    windows._rules[0].hear(2)
    with pytest.raises(TypeError, match=r"floats, to be averaged, got torch\.int64"):
        windows.write(np.array([0]), [torch.tensor([[1]])])


def test_vectors_of_length_1_are_brought_to_it_again_and_then_shortened():
    rule = JoinRule(
        POOLINGS["mean"], has_length_1=True, at_end=lambda hidden, mask: hidden[:, :1]
    )
    rule.hear(2)
    values = torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 0], [1, 0], [1, 0]])
    array, _ = joined(values, [[0, 1, 2, 3, 4, 5]], rule)
    np.testing.assert_allclose(array, [[4 / 20**0.5], [1], [1]], rtol=1e-6)


def test_one_window_of_several_is_named():
    windows = WindowsSink(ArraySink(9, None), Spans(*SPANS), [], first_row=5)
    names = [
        describe_rows(windows.caller_rows(np.array(one))) for one in ([4], [2], [3, 5])
    ]
    assert names == ["window 2 of row 7, values 4 to 8", "row 6", "row 7"]
