import functools
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sklearn_torch_bridge import (
    ConversionError,
    ForwardError,
    OutputError,
    TorchFeatureExtractor,
)
from tests.replica.test_make_replica import snapshot
from tests.tiny_models import (
    Counting,
    Doubling,
    Failing,
    Returning,
    Stateful,
    Tally,
    Tokens,
    cnn,
    mlp,
)

# The same row in another batch: other kernels, other rounding.
SAME = {"rtol": 1e-5, "atol": 1e-5}


def by_hand(module, X, dtype=torch.float32):
    with torch.inference_mode():
        return module.eval()(torch.tensor(X, dtype=dtype)).numpy()


@pytest.fixture
def X(rng):
    return rng.normal(size=(10, 4))


# What comes out ----------------------------------------------------------------------


def test_the_result_is_that_of_a_loop_by_hand(X):
    module = mlp()
    Z = TorchFeatureExtractor(module, batch_size=3).fit_transform(X)
    np.testing.assert_allclose(Z, by_hand(module, X), **SAME)
    assert Z.dtype == np.float32
    assert Z.flags.c_contiguous
    assert Z.flags.owndata
    assert Z.flags.writeable


@given(
    X=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.just(4)),
        elements=st.floats(-9, 9, width=32),
    ),
    batch_size=st.integers(1, 14),
    data=st.data(),
)
def test_neither_batches_nor_order_nor_cuts_change_a_row(X, batch_size, data):
    extractor = TorchFeatureExtractor(mlp(), batch_size=batch_size)
    Z = extractor.transform(X)
    order = data.draw(st.permutations(range(len(X))))
    np.testing.assert_allclose(extractor.transform(X[order]), Z[order], **SAME)
    cut = data.draw(st.integers(0, len(X)))
    pieces = [extractor.transform(part) for part in (X[:cut], X[cut:])]
    np.testing.assert_allclose(np.concatenate(pieces), Z, **SAME)


@pytest.mark.parametrize("pooling", ["auto", "flatten", lambda hidden, _: hidden[:]])
def test_a_layer_tapped_before_one_that_works_in_place_keeps_its_values(rng, pooling):
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    X = rng.normal(size=(5, 4))
    extractor = TorchFeatureExtractor(module, layer=["0", "2"], pooling=pooling)
    Z = extractor.transform(X)
    np.testing.assert_allclose(Z[:, :4], by_hand(module[0], X), **SAME)
    assert Z[:, :4].min() < 0


def test_a_second_fit_forgets_the_first():
    frame = pd.DataFrame({"a": [1.0], "b": [2.0]})
    extractor = TorchFeatureExtractor(nn.Identity(), pooling="flatten").fit(frame)
    assert extractor.feature_names_in_.tolist() == ["a", "b"]
    extractor.set_params(pooling=None).fit(np.ones((2, 3, 4)))
    assert not hasattr(extractor, "n_features_in_")
    assert not hasattr(extractor, "feature_names_in_")
    with pytest.raises(AttributeError, match="does not provide"):
        extractor.get_feature_names_out()
    assert extractor.transform(np.ones((2, 7))).shape == (2, 7)


@pytest.mark.parametrize("pooling", ["flatten", "mean", None])
def test_complex_values_come_by_name(pooling):
    module = Returning(torch.fft.fft)
    X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    extractor = TorchFeatureExtractor(module, pooling=pooling, dtype="complex64")
    spectrum = np.fft.fft(X)
    expected = {"flatten": spectrum.reshape(2, -1), "mean": spectrum.mean(1)}
    Z = extractor.transform(X)
    assert Z.dtype == np.complex64
    np.testing.assert_allclose(Z, expected.get(pooling, spectrum), rtol=1e-5, atol=1e-5)
    with pytest.raises(ConversionError, match="or ask for dtype='complex64'"):
        extractor.set_params(dtype="float32").transform(X)


@pytest.mark.parametrize("pooling", ["auto", "mean", "gap", "max", "gmp", "flatten"])
def test_images_are_pooled_to_one_vector(rng, pooling):
    module, X = cnn(), rng.normal(size=(5, 3, 6, 7)).astype(np.float32)
    Z = TorchFeatureExtractor(module, pooling=pooling, batch_size=2).transform(X)
    maps = by_hand(module, X)
    expected = {
        "flatten": maps.reshape(5, -1),
        "max": maps.max((2, 3)),
        "gmp": maps.max((2, 3)),
    }.get(pooling, maps.mean((2, 3)))
    np.testing.assert_allclose(Z, expected, **SAME)


def test_without_pooling_all_axes_stay(rng):
    module, X = cnn(), rng.normal(size=(3, 3, 6, 7)).astype(np.float32)
    extractor = TorchFeatureExtractor(module, pooling=None, batch_size=2)
    np.testing.assert_allclose(extractor.fit_transform(X), by_hand(module, X), **SAME)
    assert extractor.transform(X[:0]).shape == (0, 5, 4, 5)


@pytest.mark.parametrize("axes", [2, (1, 2)], ids=["vectors", "numbers"])
def test_pooling_may_be_a_callable(axes):
    module = Returning(lambda x: x.unsqueeze(2).expand(-1, -1, 3))
    extractor = TorchFeatureExtractor(module, pooling=lambda h, _: h.sum(axes))
    assert extractor.transform([[1.0], [2.0]]).tolist() == [[3], [6]]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", "f4"),
        ("float64", "f8"),
        ("float16", "f2"),
        (np.float64, "f8"),
        (None, "f4"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "model_dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str
)
def test_the_result_has_the_dtype_asked_for(X, dtype, expected, model_dtype):
    module = nn.Linear(4, 3).to(model_dtype)
    Z = TorchFeatureExtractor(module, dtype=dtype).transform(X)
    assert Z.dtype == expected


def test_one_number_per_row_is_one_column():
    Z = TorchFeatureExtractor(Returning(lambda x: x.sum(1))).transform([[1.0, 2.0]])
    assert Z.tolist() == [[3]]


def test_integers_reach_the_model_as_they_are():
    module = nn.Embedding(9, 4)
    Z = TorchFeatureExtractor(module).transform(np.array([[1, 2], [8, 8]]))
    assert Z.shape == (2, 4)


@pytest.mark.parametrize(
    "make", [np.asarray, torch.tensor, pd.DataFrame, np.ndarray.tolist]
)
def test_the_same_rows_in_other_dress_give_the_same(X, make):
    extractor = TorchFeatureExtractor(mlp())
    np.testing.assert_array_equal(extractor.transform(make(X)), extractor.transform(X))


def test_a_list_of_tensors_is_one_tensor(X):
    extractor = TorchFeatureExtractor(mlp())
    rows = [torch.tensor(row, requires_grad=True) for row in X]
    np.testing.assert_array_equal(extractor.transform(rows), extractor.transform(X))


# What goes in ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    [nn.Identity(), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(0.5)],
    ids=lambda module: type(module).__name__,
)
@pytest.mark.parametrize("make", [np.copy, torch.tensor], ids=["array", "tensor"])
def test_the_callers_rows_are_neither_written_nor_shared(rng, module, make):
    X = make(rng.normal(size=(4, 3)).astype(np.float32))
    before = np.asarray(X).copy()
    Z = TorchFeatureExtractor(module).transform(X)
    np.testing.assert_array_equal(np.asarray(X), before)
    Z[:] = 99
    np.testing.assert_array_equal(np.asarray(X), before)


def test_a_model_that_keeps_its_rows_does_not_see_them_change(X):
    kept = Tally()
    module = Returning(lambda x: (kept(x), x)[1])
    Z = TorchFeatureExtractor(module, batch_size=3).transform(X)
    np.testing.assert_allclose(torch.cat(kept.sizes).numpy(), X, **SAME)
    np.testing.assert_allclose(Z, X, **SAME)


def test_weights_returned_by_a_model_are_not_shared():
    module = nn.Linear(3, 3)
    holder = Returning(lambda x: module.weight[: len(x)])
    Z = TorchFeatureExtractor(holder).transform(np.ones((3, 3)))
    before = module.weight.detach().clone()
    Z[:] = 99
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        pytest.param([[1.0, 2.0], [[3.0]]], ValueError, "row 1 has shape", id="ragged"),
        pytest.param(
            [1.0, 2.0], ValueError, "Expected 2D array, got 1D array", id="1-D"
        ),
        pytest.param(torch.ones(3), ValueError, "Expected 2D array", id="1-D tensor"),
        pytest.param([[np.nan] * 4], ValueError, "contains NaN", id="nan"),
        pytest.param(torch.full((1, 4), torch.inf), ValueError, "NaN or inf", id="inf"),
        pytest.param(
            ["a"], TypeError, "`X` holds str.* give a `preprocess`", id="text"
        ),
        pytest.param([[1j]], ValueError, "Complex data not supported", id="complex"),
        pytest.param(
            torch.ones(1, 4) * 1j,
            ConversionError,
            "dense tensor of real",
            id="1j tensor",
        ),
        pytest.param(
            torch.ones(1, 4).to_sparse(), ConversionError, "dense tensor", id="sparse"
        ),
        pytest.param(
            [torch.ones(2, 3), torch.ones(4)],
            ValueError,
            r"row 1 has shape \(4,\), and another \(2, 3\)",
            id="uneven",
        ),
        pytest.param([torch.ones(2), None], TypeError, "row 1 is missing", id="mixed"),
        pytest.param([np.ones(4), None], TypeError, "row 1 is missing", id="arrays"),
        pytest.param([np.ones(4), "a"], TypeError, "row 1 is a str", id="a text"),
        pytest.param(
            np.ma.masked_array(np.ones((2, 4)), mask=np.eye(2, 4)),
            ConversionError,
            "mask would be lost",
            id="masked",
        ),
        pytest.param(
            np.zeros((2, 4), "M8[s]"), ConversionError, "got dtype datetime", id="dates"
        ),
        pytest.param(
            torch.ones(2, 4, device="meta"), ConversionError, "a meta ten", id="meta"
        ),
        pytest.param(
            torch.nested.nested_tensor([torch.ones(4)] * 2, layout=torch.jagged),
            ConversionError,
            "dense tensor of real numbers",
            id="nested",
        ),
        pytest.param(
            DataLoader(TensorDataset(torch.ones(2, 4))),
            TypeError,
            "Give its `dataset`",
            id="loader",
        ),
        pytest.param(
            [torch.ones(2), None, torch.ones(3)],
            TypeError,
            "row 1 is missing",
            id="gap",
        ),
        pytest.param(
            {"a": [1]}, ValueError, "column 'a', and `model` takes", id="dict"
        ),
    ],
)
def test_input_that_cannot_be_used_is_refused_with_a_reason(X, error, words):
    with pytest.raises(error, match=words):
        TorchFeatureExtractor(mlp()).transform(X)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # it is on its way out
def test_quantized_rows_are_refused():
    X = torch.quantize_per_tensor(torch.ones(2, 4), 0.1, 0, torch.qint8)
    with pytest.raises(ConversionError, match="qint8"):
        TorchFeatureExtractor(mlp()).transform(X)


def test_rows_on_another_axis_are_refused_where_torch_says_so():
    X = np.ones((3, 5, 8), np.float32)
    step = nn.TransformerEncoderLayer(8, 2, 16)
    for module in (nn.GRU(8, 6), nn.Sequential(nn.LSTM(8, 6)), step):
        for rows in (X, torch.tensor(X), [X[0], X[0, 1:]]):
            with pytest.raises(ValueError, match="with batch_first=True"):
                TorchFeatureExtractor(module, output=0).transform(rows)
    encoder = nn.TransformerEncoder(step, 1, enable_nested_tensor=False)
    with pytest.raises(ValueError, match="its TransformerEncoder with batch_first"):
        TorchFeatureExtractor(encoder).transform(X)
    gru = nn.GRU(8, 6, batch_first=True)
    for module in (gru, step, nn.MultiheadAttention(8, 2)):
        with pytest.raises(ValueError, match="must have an axis of steps between"):
            TorchFeatureExtractor(module, output=0).transform(X[0])
    turned = nn.GRU(8, 6)
    for rows in ({"input": X}, TensorDataset(torch.tensor(X))):
        with pytest.raises(ValueError, match="with batch_first=True"):
            TorchFeatureExtractor(turned, output=0).transform(rows)
    turned.register_forward_pre_hook(lambda _, given: (given[0].transpose(0, 1),))
    pooled = TorchFeatureExtractor(turned, output=0, pooling=lambda h, _: h.mean(1))
    assert pooled.transform(X).shape == (3, 6)
    Z = TorchFeatureExtractor(gru, output=0).transform(X)
    np.testing.assert_allclose(Z[:1], gru(torch.tensor(X[:1]))[0].mean(1).detach())


@pytest.mark.parametrize(
    "X",
    [np.empty((0, 4)), torch.empty(0, 4), [], {"x": np.empty((0, 4))}],
    ids=["array", "tensor", "list", "columns"],
)
def test_fit_needs_a_row(X):
    with pytest.raises(ValueError, match=r"0 sample\(s\).* minimum of 1 is required"):
        TorchFeatureExtractor(mlp()).fit(X)


# The caller's module -----------------------------------------------------------------


def test_the_module_is_not_touched(rng):
    module = Stateful().train()
    module.norm.eval()
    module.register_forward_hook(lambda *_: None)
    before = snapshot(module)
    TorchFeatureExtractor(module, layer="norm").fit_transform(rng.normal(size=(9, 3)))
    assert snapshot(module) == before


def test_the_module_is_not_touched_by_a_failing_second_batch(rng):
    module = Stateful().train()
    module.limit = 50
    before = snapshot(module)
    X = rng.normal(size=(9, 3))
    X[5, 0] = 51
    with pytest.raises(ForwardError, match="on row 5"):
        TorchFeatureExtractor(module, batch_size=3).transform(X)
    assert snapshot(module) == before


def test_the_module_runs_in_eval_mode_and_without_gradients(X):
    seen = []
    module = nn.Sequential(nn.Dropout(0.9), mlp()).train()
    module.register_forward_hook(
        lambda part, _, value: seen.append((part.training, value.requires_grad))
    )
    extractor = TorchFeatureExtractor(module)
    np.testing.assert_array_equal(extractor.transform(X), extractor.transform(X))
    assert set(seen) == {(False, False)}


def test_threads_with_clones_of_other_layers_do_not_mix(rng):
    module = Doubling(6)
    X = rng.normal(size=(64, 2))
    base = TorchFeatureExtractor(module, batch_size=5)
    results, start = {}, threading.Barrier(6)

    def work(block):
        extractor = clone(base).set_params(layer=f"blocks.{block}")
        start.wait(10)
        results[block] = [extractor.transform(X) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(block,)) for block in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for block, found in results.items():
        for Z in found:
            np.testing.assert_allclose(Z, X * 2 ** (block + 1), **SAME)


# Models and outputs ------------------------------------------------------------------


def make_mlp():
    return mlp()


@pytest.mark.parametrize("model", [lambda x: x, nn.Linear])
def test_a_callable_that_wants_arguments_makes_no_model(model, X):
    with pytest.raises(TypeError, match="without being given anything: missing a req"):
        TorchFeatureExtractor(model).transform(X)


def test_a_callable_may_fill_in_what_another_wants(X):
    def build(width):
        return nn.Linear(4, width)

    @functools.wraps(build)
    def filled():
        return build(2)

    assert TorchFeatureExtractor(filled).transform(X).shape == (len(X), 2)

    def broken():
        return nn.Linear("four", 2)

    with pytest.raises(TypeError, match="empty"):
        TorchFeatureExtractor(broken).transform(X)


def test_a_callable_is_loaded_once_and_shared_by_clones(X):
    made = []

    def make():
        made.append(mlp())
        return made[-1]

    extractor = TorchFeatureExtractor(make)
    Z = extractor.fit_transform(X)
    np.testing.assert_array_equal(clone(extractor).transform(X), Z)
    assert len(made) == 1


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("resnet", ValueError, "must be one of 'hf:NAME_.*, got 'resnet'"),
        ("hf:", ValueError, "must be one of 'hf:NAME_.*, got 'hf:'"),
        ("hf:/nowhere", ValueError, "must be a folder with a saved model"),
        (3, TypeError, "`model` must be a torch.nn.Module, a bound .* got 3"),
        (dict, TypeError, "must return a torch.nn.Module, got dict"),
        (nn.LazyLinear(2), ValueError, "run one forward pass of the lazy module first"),
    ],
    ids=["no prefix", "no name", "no folder", "number", "factory", "lazy"],
)
def test_what_is_no_model_is_refused(X, model, error, words):
    with pytest.raises(error, match=words):
        TorchFeatureExtractor(model).fit(X)


def test_several_outputs_are_not_guessed_at(X):
    module = Returning(lambda x: {"logits": x, "hidden": x[:, :2]})
    with pytest.raises(OutputError, match=r"'logits' \(10, 4\), 'hidden' \(10, 2\)"):
        TorchFeatureExtractor(module).transform(X)
    Z = TorchFeatureExtractor(module, output="hidden").transform(X)
    np.testing.assert_allclose(Z, X[:, :2], **SAME)


def test_output_picks_from_what_a_layer_returns(rng):
    module = nn.Sequential(nn.LSTM(3, 5, batch_first=True))
    X = rng.normal(size=(4, 6, 3))
    Z = TorchFeatureExtractor(module, layer="0", output=0, pooling="last").transform(X)
    with torch.inference_mode():
        expected = module.eval()(torch.tensor(X, dtype=torch.float32))[0][:, -1]
    np.testing.assert_allclose(Z, expected.numpy(), **SAME)


@pytest.mark.parametrize(
    ("make", "parameters", "error", "words"),
    [
        (lambda x: x[:4], {}, ValueError, r"one result per row, got shape \(4, 4\)"),
        (lambda x: x.sum(), {}, ValueError, r"one result per row, got shape \(\)"),
        (lambda x: "text", {}, TypeError, "must be a tensor, got str"),
        (lambda x: x, {"pooling": lambda h, _: h[..., None]}, ValueError, "one vector"),
        (lambda x: x, {"pooling": lambda h, _: None}, TypeError, "must be a tensor"),
        (lambda x: x[:, :, None, None], {"pooling": "cls"}, ValueError, "three axes"),
    ],
    ids=[
        "four rows",
        "scalar",
        "text",
        "3-D pooling",
        "no pooling",
        "cls of an image",
    ],
)
def test_results_that_are_no_vector_per_row_are_refused(
    X, make, parameters, error, words
):
    with pytest.raises(error, match=words):
        TorchFeatureExtractor(Returning(make), **parameters).transform(X)


# Failures ----------------------------------------------------------------------------


def test_an_interruption_passes_through(X):
    module = Failing(-100, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        TorchFeatureExtractor(module).transform(X)


def test_layers_of_changing_shape_do_not_fit_without_pooling():
    module = Returning(lambda x: x[:, : int(x.max()), None])
    X = np.array([[1.0, 1.0], [2.0, 2.0]])
    with pytest.raises(ValueError, match=r"got \(1, 2, 1\)\. Pool rows of different"):
        TorchFeatureExtractor(module, pooling=None, batch_size=1).transform(X)


# Texts -------------------------------------------------------------------------------


@pytest.fixture
def words_model():
    torch.manual_seed(0)
    return Tokens()


def test_texts_come_back_in_order_whatever_their_length(words_model, tokenizer, texts):
    extractor = TorchFeatureExtractor(words_model, preprocess=tokenizer, batch_size=3)
    Z = extractor.fit_transform(texts)
    alone = np.concatenate([extractor.transform([text]) for text in texts])
    np.testing.assert_allclose(Z, alone, **SAME)


def test_equal_texts_run_once_and_long_ones_first(words_model, tokenizer, texts):
    counting = Counting(words_model)
    preprocess = lambda given: tokenizer(given, padding=True, return_tensors="pt")  # noqa: E731 - used here alone
    keep = ("input_ids", "attention_mask")
    extractor = TorchFeatureExtractor(
        counting,
        preprocess=lambda given: {
            k: v for k, v in preprocess(given).items() if k in keep
        },
        batch_size=5,
    )
    extractor.transform(texts)  # tries once whether padding changes a row
    counting.tally.sizes.clear()
    Z = extractor.transform(texts)
    assert counting.tally.sizes == [5, 2]  # "ok" is in the texts twice
    np.testing.assert_array_equal(Z[1], Z[5])


@pytest.mark.parametrize(
    "make", [list, pd.Series, np.array, lambda t: pd.DataFrame({"t": t})]
)
def test_texts_in_other_dress_give_the_same(words_model, tokenizer, texts, make):
    extractor = TorchFeatureExtractor(words_model, preprocess=tokenizer)
    Z = extractor.fit(make(texts)).transform(make(texts))
    np.testing.assert_array_equal(Z, extractor.transform(texts))


def test_no_texts_give_no_rows_of_the_right_width(words_model, tokenizer):
    extractor = TorchFeatureExtractor(words_model, preprocess=tokenizer)
    assert extractor.transform([]).shape == (0, 8)
    assert extractor.transform(pd.Series([], dtype=str)).shape == (0, 8)
    with pytest.raises(ValueError, match="minimum of 1 is required"):
        extractor.fit([])


def test_numbers_for_a_tokenizer_are_refused(words_model, tokenizer, X):
    with pytest.raises(TypeError, match="`X` must hold str for a tokenizer"):
        TorchFeatureExtractor(words_model, preprocess=tokenizer).transform(X)


def test_a_mask_of_another_length_is_refused(tokenizer, texts):
    module = nn.Sequential(nn.Embedding(30_522, 4), Returning(lambda h: h[:, ::2]))
    with pytest.raises(ValueError, match="`mask` must have shape") as caught:
        TorchFeatureExtractor(module, preprocess=tokenizer).transform(texts)
    assert "model's output" in caught.value.__notes__[0]


def test_rows_of_any_kind_go_through_preprocess():
    extractor = TorchFeatureExtractor(
        nn.Identity(), preprocess=lambda rows: torch.tensor([row["x"] for row in rows])
    )
    assert extractor.fit_transform([{"x": [1.0]}, {"x": [2.0]}]).tolist() == [[1], [2]]
    assert extractor.transform([]).shape == (0, 1)


def test_the_width_of_nothing_cannot_be_told_without_fit(X):
    extractor = TorchFeatureExtractor(mlp())
    with pytest.raises(ValueError, match="call `fit` first"):
        extractor.transform([])
    assert extractor.fit(X).transform([]).shape == (0, 3)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found(order, value):
    X = np.ones((40, 30), np.float32, order=order)
    extractor = TorchFeatureExtractor(nn.Identity(), device="cpu")
    np.testing.assert_array_equal(extractor.transform(X), X)
    X[33, 20] = value
    with pytest.raises(ValueError, match=r"contains NaN|contains infinity"):
        extractor.transform(X)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("value", [1e30, -1e30, 1e-30])
def test_values_may_be_so_large_or_small_that_their_squares_are_none(order, value):
    X = np.full((4, 3), value, np.float32, order=order)
    extractor = TorchFeatureExtractor(nn.Identity(), device="cpu")
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(extractor.transform(X), X)


class Recurrent(nn.Module):
    """Returns what an LSTM does, with the rows first."""

    def forward(self, x):
        return x, (2 * x, {"cell": 3 * x})


@pytest.mark.parametrize(
    ("output", "factor"), [(0, 1), ((1, 0), 2), ((1, 1, "cell"), 3)], ids=str
)
def test_a_nested_output_can_be_chosen(output, factor, tmp_path, cache):
    X = np.ones((3, 2))
    extractor = TorchFeatureExtractor(Recurrent(), output=output, cache=cache)
    np.testing.assert_array_equal(extractor.fit(X).transform(X), factor * X)
    extractor.save(tmp_path / "saved")
    loaded = TorchFeatureExtractor.load(tmp_path / "saved", Recurrent)
    assert loaded.output == output
    np.testing.assert_array_equal(loaded.transform(X), factor * X)


@pytest.mark.parametrize("output", [(), (1, None), True, (False,), 1.0, [0]], ids=str)
def test_an_output_that_names_nothing_is_refused(output):
    with pytest.raises(TypeError, match=r"`output` must be a key, .*a tuple of these"):
        TorchFeatureExtractor(Recurrent(), output=output).transform(np.ones((1, 2)))
