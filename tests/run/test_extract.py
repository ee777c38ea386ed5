"""The engine: bad rows, workers, devices, precision, batches by budget."""

import signal
import threading
import warnings
import weakref
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    ForwardError,
    TorchFeatureExtractor,
    precompute,
)
from tests.tiny_models import Counting, Doubling, Failing, Returning, Tally, Tokens, mlp

SAME = {"rtol": 1e-5, "atol": 1e-5}


# Bad rows ----------------------------------------------------------------------------


def limited(limit=40):
    return nn.Sequential(Counting(), Failing(limit))


def test_bad_rows_become_nan_and_are_listed_in_one_warning():
    X = np.arange(64.0)[:, None] % 32
    X[[3, 40, 41]] = 50
    module = limited()
    extractor = TorchFeatureExtractor(module, on_error="nan", batch_size=16)
    with pytest.warns(BadRowWarning, match=r"^rows 3, 40, 41 of .* NaN .*boom") as told:
        Z = extractor.transform(X)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert np.isnan(Z[[3, 40, 41]]).all()
    good = np.delete(np.arange(64), [3, 40, 41])
    np.testing.assert_array_equal(Z[good], X[good])


@given(bad=st.sets(st.integers(0, 99), max_size=1), batch_size=st.integers(2, 64))
def test_one_bad_row_costs_two_forwards_a_halving(bad, batch_size):
    X = np.zeros((100, 1))
    X[list(bad)] = 50
    module = limited()
    extractor = TorchFeatureExtractor(module, on_error="nan", batch_size=batch_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadRowWarning)  # it is not what is tested here
        extractor.transform(X)
    plain = -(-100 // batch_size)
    extra = 2 * np.ceil(np.log2(batch_size))
    assert len(module[0].tally.sizes) <= plain + len(bad) * extra


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


def test_rows_that_preprocess_fails_on_become_nan():
    def preprocess(rows):
        return torch.tensor([[float(row)] for row in rows])

    extractor = TorchFeatureExtractor(
        nn.Identity(), preprocess=preprocess, on_error="nan", batch_size=4
    )
    with pytest.warns(BadRowWarning, match=r"rows 1, 5 of .*could not convert"):
        Z = extractor.transform(["1", "x", "2", "3", "4", "y"])
    np.testing.assert_array_equal(Z[:, 0], [1, np.nan, 2, 3, 4, np.nan])


def test_fit_looks_for_a_row_that_can_be_used():
    extractor = TorchFeatureExtractor(limited(), on_error="nan")
    extractor.fit(np.array([[50.0, 1], [60, 1], [3, 1]]))
    assert extractor.get_feature_names_out().shape == (2,)


@pytest.mark.parametrize("method", ["fit", "transform", "fit_transform"])
def test_where_all_rows_are_bad_the_first_reason_is_an_error(method):
    extractor = TorchFeatureExtractor(limited(), on_error="nan", batch_size=2)
    with pytest.raises(ForwardError, match="boom"):
        getattr(extractor, method)(np.full((3, 1), 50.0))
    with pytest.raises(ValueError, match="none of its 2 can"):
        getattr(extractor, method)(np.full((2, 1), np.nan))


def test_a_wrong_wish_is_no_bad_row(rng):
    module = Returning(lambda x: {"a": x, "b": x})
    extractor = TorchFeatureExtractor(module, on_error="nan")
    with pytest.raises(TypeError, match="choose one"):
        extractor.transform(rng.normal(size=(4, 2)))


def test_a_row_that_does_not_fit_in_memory_is_a_bad_row():
    module = Failing(40, error=MemoryError("no"))
    X = np.zeros((8, 1))
    X[5] = 41
    with pytest.warns(BadRowWarning, match=r"row 5 of .*with this row alone"):
        Z = TorchFeatureExtractor(module, on_error="nan").transform(X)
    assert np.flatnonzero(np.isnan(Z)).tolist() == [5]


# Workers -----------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_prepare_batches_and_keep_the_order(num_workers):
    X = [str(number) for number in range(101)]
    threads = set()

    def preprocess(rows):
        threads.add(threading.current_thread())
        return torch.tensor([[float(row)] for row in rows])

    extractor = TorchFeatureExtractor(
        nn.Identity(), preprocess=preprocess, num_workers=num_workers, batch_size=4
    )
    assert extractor.transform(X)[:, 0].tolist() == list(range(101))
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_batches_are_prepared_while_the_model_runs():
    """The model waits for the next batch to be prepared: without workers, for ever."""
    prepared = [threading.Event() for _ in range(3)]

    def preprocess(rows):
        row = int(rows[0])
        prepared[row].set()
        return torch.tensor([[float(row)]])

    def forward(x):
        follower = int(x) + 1
        assert follower == 3 or prepared[follower].wait(30)
        return x

    extractor = TorchFeatureExtractor(
        Returning(forward), preprocess=preprocess, num_workers=1, batch_size=1
    )
    assert extractor.transform(["0", "1", "2"]).tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_row_that_a_worker_fails_on_is_named(num_workers):
    def preprocess(rows):
        return torch.tensor([[float(row)] for row in rows])

    extractor = TorchFeatureExtractor(
        nn.Identity(), preprocess=preprocess, num_workers=num_workers, batch_size=2
    )
    before = threading.active_count()
    with pytest.raises(ForwardError, match=r"`preprocess` failed on row 4: Val"):
        extractor.transform(["1", "2", "3", "4", "x", "5", "6"])
    assert threading.active_count() == before


def test_workers_go_with_batches_that_are_too_large(rng):
    X = rng.normal(size=(100, 3))
    tally = Tally()

    def forward(x):
        tally(len(x))
        if len(x) > 5:
            raise MemoryError
        return x * 2

    extractor = TorchFeatureExtractor(
        Returning(forward),
        preprocess=lambda rows: torch.tensor(np.array(rows)),
        num_workers=2,
        batch_size=64,
    )
    np.testing.assert_allclose(extractor.transform(X), X * 2, **SAME)
    assert [size for size in tally.sizes if size > 5] == [64, 32, 16, 8]


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
    with pytest.raises(ForwardError, match="failed on rows 100 to 103"):
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


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_and_comes_back_wide(rng, precision):
    X = rng.normal(size=(30, 4))
    full = TorchFeatureExtractor(mlp()).transform(X)
    Z = TorchFeatureExtractor(mlp(), precision=precision).transform(X)
    assert Z.dtype == np.float32
    np.testing.assert_allclose(Z, full, rtol=0.05, atol=0.02)
    assert np.abs(Z - full).max() > 1e-6


def test_the_autocast_of_the_caller_is_no_setting(rng):
    """No key of a cache and no file would tell what was computed in it."""
    X = rng.normal(size=(30, 4))
    extractor = TorchFeatureExtractor(mlp())
    half = TorchFeatureExtractor(mlp(), precision="bfloat16")
    expected, expected_half = extractor.transform(X), half.transform(X)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(extractor.transform(X), expected)
        np.testing.assert_array_equal(half.transform(X), expected_half)
        assert torch.is_autocast_enabled("cpu")


# Batches by budget -------------------------------------------------------------------


def test_auto_fills_a_budget_of_tokens(tokenizer):
    module = Tokens()
    tally = Tally()

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, input_ids, attention_mask):
            tally(tuple(input_ids.shape))
            return self.inner(input_ids, attention_mask)

    texts = [f"{'word ' * (1 + number % 200)}{number}" for number in range(400)]
    extractor = TorchFeatureExtractor(Watched(), preprocess=tokenizer)
    Z = extractor.set_params(batch_size="auto").transform(texts)
    shapes = tally.sizes
    assert all(rows * tokens <= 1_024 for rows, tokens in shapes)
    assert shapes[0][0] < 8
    assert max(rows for rows, _ in shapes) > 4 * shapes[0][0]
    np.testing.assert_allclose(
        Z, extractor.set_params(batch_size=32).transform(texts), **SAME
    )


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((3_000, 4), 1_024), ((100, 3, 256, 256), 21), ((3, 3_000_000), 1)],
    ids=["narrow", "images", "huge"],
)
def test_auto_fills_a_budget_of_values(shape, rows):
    counting = Counting(Returning(lambda x: x.flatten(1)[:, :1]))
    X = np.broadcast_to(np.float32(1), shape)
    TorchFeatureExtractor(counting, batch_size="auto").transform(X)
    assert counting.tally.sizes[0] == rows


# Rows of different length ------------------------------------------------------------


class Masked(nn.Module):
    """A small Transformer, which padding would change if it did not know it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.inner = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x, attention_mask):
        return self.inner(x, src_key_padding_mask=attention_mask == 0)


class MaskedAsInTorch(Masked):
    def forward(self, x, src_key_padding_mask):
        return self.inner(x, src_key_padding_mask=src_key_padding_mask)


def as_objects(rows):
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


def ragged(rng, n_rows=12):
    return [
        rng.normal(size=(rng.integers(1, 9), 4)).astype(np.float32)
        for _ in range(n_rows)
    ]


@pytest.mark.parametrize("pooling", ["mean", "max", "last", "cls"])
@pytest.mark.parametrize(
    "module",
    [Masked(), MaskedAsInTorch()],
    ids=["attention_mask", "src_key"],
)
@pytest.mark.parametrize("make", [np.asarray, torch.tensor], ids=["array", "tensor"])
def test_padding_never_changes_a_row(rng, module, make, pooling):
    rows = [make(row) for row in ragged(rng)]
    extractor = TorchFeatureExtractor(module, pooling=pooling, batch_size=5)
    Z = extractor.fit_transform(rows)
    alone = [extractor.transform([row])[0] for row in rows]  # of one length: no list
    by_hand = TorchFeatureExtractor(module.inner, pooling=pooling)
    np.testing.assert_allclose(Z, alone, **SAME)
    np.testing.assert_allclose(
        Z, [by_hand.transform(row[None])[0] for row in rows], **SAME
    )


class Summing(nn.Module):
    """Has a layer behind an encoder, which sees what stands in padded places."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(4, 3)

    def forward(self, x, src_key_padding_mask):
        hidden = self.encoder(x, src_key_padding_mask=src_key_padding_mask)
        return self.head(hidden.sum(1))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # torch's own
@pytest.mark.parametrize(
    "layer", ["encoder.layers.0", "encoder.layers.1.linear1", "encoder.layers.1.norm2"]
)
def test_layers_of_torchs_encoder_are_read_from_ragged_rows(rng, layer, cache):
    model, rows = Summing().eval(), ragged(rng)
    extractor = TorchFeatureExtractor(model, layer=layer)
    Z = extractor.transform(rows)
    alone = np.vstack([extractor.transform([row]) for row in rows])
    np.testing.assert_allclose(Z, alone, **SAME)
    expected = TorchFeatureExtractor(model).transform(rows)
    for also in ("head", ["head", layer]):
        found = TorchFeatureExtractor(model, layer=also).transform(rows)[:, :3]
        np.testing.assert_allclose(found, expected, **SAME)
    kept = TorchFeatureExtractor(model, cache=cache)
    grid = {"torchfeatureextractor__layer": [None, layer]}
    precompute(GridSearchCV(make_pipeline(kept, Ridge()), grid), rows)
    np.testing.assert_allclose(kept.transform(rows), expected, **SAME)


def test_rows_are_not_padded_for_a_model_without_a_mask(rng):
    """A convolution would see the zeros beside the last real step."""
    torch.manual_seed(0)
    conv = nn.Conv1d(1, 3, 3, padding=1)
    counting = Counting(nn.Sequential(nn.Unflatten(1, (1, -1)), conv))
    waves = [rng.normal(size=length) for length in (9, 4, 9, 30, 4, 9)]
    Z = TorchFeatureExtractor(counting, pooling="gap").transform(waves)
    for row, wave in enumerate(waves):
        x = torch.tensor(wave, dtype=torch.float32)[None, None]
        expected = conv(x).mean(2).detach().numpy()
        np.testing.assert_allclose(Z[[row]], expected, **SAME)
    assert counting.tally.sizes == [1, 3, 2]


@pytest.mark.parametrize("dress", [list, pd.Series, as_objects], ids=str)
@pytest.mark.parametrize("make", [np.asarray, torch.tensor], ids=["array", "tensor"])
def test_even_rows_that_are_none_are_bad_rows(make, dress):
    rows = [make([1.0, 2.0]), None, make([3.0, 4.0]), make([np.nan, 1.0]), "a"]
    extractor = TorchFeatureExtractor(nn.Identity(), on_error="nan")
    with pytest.warns(BadRowWarning, match="rows 1, 3, 4 of"):
        Z = extractor.transform(dress(rows))
    nan = [np.nan, np.nan]
    np.testing.assert_array_equal(Z, [[1, 2], nan, [3, 4], nan, nan])


def test_a_bad_row_holds_no_tensor_of_its_forward():
    alive = []

    class Picky(nn.Module):
        def forward(self, x):
            hidden = x * 2
            alive.append(weakref.ref(hidden))
            if x.min() < 0:
                msg = "below zero"
                raise ArithmeticError(msg)
            return hidden

    def preprocess(rows):
        assert not any(ref() is not None for ref in alive)
        return torch.tensor(np.array(rows), dtype=torch.float32)

    X = np.array([[1.0], [-1.0], [-2.0], [3.0]])
    extractor = TorchFeatureExtractor(
        Picky(), preprocess=preprocess, batch_size=1, on_error="nan"
    )
    with pytest.warns(BadRowWarning, match="rows 1 to 2 of .* below zero"):
        Z = extractor.transform(X)
    np.testing.assert_array_equal(Z, [[2], [np.nan], [np.nan], [6]])


def test_an_integer_result_has_no_place_for_a_bad_row():
    X = np.array([[1.0, 2.0], [np.nan, 0.0]])
    model = Returning(lambda x: x.argmax(1))
    extractor = TorchFeatureExtractor(model, dtype=None, on_error="nan")
    with pytest.raises(
        ValueError, match=r"model gives int64\. Ask for dtype='float64'"
    ):
        extractor.transform(X)


def test_the_entries_of_a_column_are_one_feature_in():
    frame = pd.DataFrame({"q": [np.ones(4)] * 3, "n": [1.0, 2.0, 3.0]})
    extractor = TorchFeatureExtractor(nn.Linear(4, 2)).set_output(transform="pandas")
    columns = ColumnTransformer([("v", extractor, ["q"]), ("p", "passthrough", ["n"])])
    columns.set_output(transform="pandas").fit(frame)
    assert columns.transform(frame).shape == (3, 3)
    assert len(columns.get_feature_names_out()) == 3
    assert columns.named_transformers_["v"].feature_names_in_.tolist() == ["q"]
    with pytest.raises(ValueError, match="feature names should match"):
        columns.named_transformers_["v"].transform(
            frame[["q"]].rename(columns=str.upper)
        )


def test_a_fitted_extractor_knows_what_bad_rows_become(tmp_path):
    X = np.full((3, 2), np.nan)
    extractor = TorchFeatureExtractor(nn.Linear(2, 5), on_error="nan")
    with pytest.raises(ValueError, match=r"none of its 3 can\. .* learnt in `fit`"):
        extractor.transform(X)
    extractor.fit(np.ones((1, 2)))
    path = tmp_path / "Z.npy"
    for run in (extractor.transform, partial(extractor.transform_to_file, path=path)):
        with pytest.warns(BadRowWarning, match="rows 0 to 2 of"):
            Z = run(X)
        np.testing.assert_array_equal(Z, np.full((3, 5), np.nan, np.float32))


def test_ragged_rows_that_are_none_are_bad_rows(rng):
    rows = [*ragged(rng, 4), None, np.ones((2, 5)), np.ones((0, 4))]
    extractor = TorchFeatureExtractor(Masked(), on_error="nan")
    with pytest.warns(BadRowWarning, match="rows 4 to 6 of"):
        Z = extractor.transform(rows)
    assert np.isnan(Z).any(1).tolist() == [False] * 4 + [True] * 3


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
