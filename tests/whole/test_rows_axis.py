"""Layers that have their rows on any axis: one vector a row, whatever the sizes are."""

import contextlib

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.utils.data import TensorDataset

from sklearn_torch_bridge import ForwardError, TorchFeatureExtractor, layer_table
from sklearn_torch_bridge.pooling import POOLINGS
from tests.tiny_models import Counting, Returning

TOKENS, WIDTH = 9, 6
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # of kernels, for other sizes of batches


class TimeFirst(nn.Module):
    """Takes (rows, tokens, 3), and puts the tokens first for its `inner` layer."""

    def __init__(self, inner, width=WIDTH):
        super().__init__()
        self.embed = nn.Linear(3, width)
        self.inner = inner

    def forward(self, x):
        value = self.inner(self.embed(x).transpose(0, 1))
        return {"last_hidden_state": value[0] if isinstance(value, tuple) else value}


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2)

    def forward(self, x):
        return self.attention(x, x, x, average_attn_weights=False)


class Translation(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 12)
        encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.transformer = nn.Transformer(WIDTH, 2, 1, 1, 12, custom_encoder=encoder)

    def forward(self, x):
        return self.transformer(x, x[:4])


class PerWindow(nn.Module):
    """Merges windows of three tokens with the rows."""

    def forward(self, x):
        return x.reshape(len(x) * 3, -1, x.shape[-1])


class Positions(nn.Module):
    """Gives the same for each row."""

    def forward(self, x):
        return torch.arange(x.shape[1] * 4.0).reshape(1, -1, 4)


class OneSizeOnly(nn.Module):
    """Takes one number of rows, as an exported program may."""

    def __init__(self, inner, n_rows):
        super().__init__()
        self.inner = inner
        self.n_rows = n_rows

    def forward(self, x):
        if len(x) != self.n_rows:
            msg = f"expected {self.n_rows} rows"
            raise RuntimeError(msg)
        return self.inner(x)


def rows(n_samples, tokens=TOKENS, width=3):
    rng = np.random.default_rng(n_samples)
    return rng.standard_normal((n_samples, tokens, width)).astype(np.float32)


def value_of(module, layer, output, X):
    """Return what a layer gives for all rows at once."""
    found = []
    part = module.get_submodule(layer)
    handle = part.register_forward_hook(lambda *given: found.append(given[2]))
    with torch.inference_mode():
        module.eval()(torch.tensor(X))
    handle.remove()
    value = found[0] if output is None else found[0][output]
    return value[0] if isinstance(value, tuple) else value


def turned(*axes):
    return Returning(lambda x: x.permute(*axes))


# How each is made, the layer tapped, which of its outputs, and where it has the rows.
KINDS = {
    "block": (lambda: nn.TransformerEncoderLayer(WIDTH, 2, 12), "inner", None, 1),
    "rnn": (lambda: nn.RNN(WIDTH, 5), "inner", 0, 1),
    "gru": (lambda: nn.GRU(WIDTH, 5, bidirectional=True), "inner", 0, 1),
    "hidden state": (lambda: nn.GRU(WIDTH, 5, 3), "inner", 1, 1),
    "attention": (SelfAttention, "inner.attention", 0, 1),
    "attention weights": (SelfAttention, "inner.attention", 1, 0),
    "translation": (Translation, "inner", None, 1),
    "its decoder": (Translation, "inner.transformer.decoder", None, 1),
    "width first": (lambda: turned(2, 0, 1), "inner", None, 2),
    "rows last": (lambda: turned(0, 2, 1), "inner", None, 2),
    "features, rows": (lambda: Returning(lambda x: x.mean(0).T), "inner", None, 1),
    "four axes": (
        lambda: Returning(lambda x: x[:, None].permute(3, 0, 1, 2)),
        "inner",
        None,
        3,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_found_on_any_axis(kind):
    torch.manual_seed(0)
    make, layer, output, axis = KINDS[kind]
    module = TimeFirst(make())
    for n_samples in (1, 2, 3, 6, TOKENS):
        X = rows(n_samples)
        rows_first = value_of(module, layer, output, X).movedim(axis, 0)
        expected = {
            None: rows_first,
            "auto": POOLINGS["mean"](rows_first),
            "max": POOLINGS["max"](rows_first),
            "flatten": rows_first.flatten(1),
        }
        for batch_size in {n_samples, 3}:
            for pooling, wanted in expected.items():
                Z = TorchFeatureExtractor(
                    module,
                    layer=layer,
                    output=output,
                    pooling=pooling,
                    batch_size=batch_size,
                ).transform(X)
                np.testing.assert_allclose(Z, wanted, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_layers_shows_the_axis_of_the_rows(kind):
    make, layer, output, axis = KINDS[kind]
    for n_samples in (2, 5, TOKENS):
        table = layer_table(TimeFirst(make()), rows(n_samples))
        if output is None:
            assert table[layer].rows_axis == axis
            assert table[layer].output.strip("()").split(", ").index("n") == axis
        else:
            field = table[layer].output.split("), ")[output]
            sizes = field.split("(")[1].rstrip(")").split(", ")
            assert sizes.index("n") == axis


def time_first():
    torch.manual_seed(1)
    return TimeFirst(nn.GRU(WIDTH, TOKENS))


@pytest.mark.parametrize(
    "container",
    [
        pytest.param(lambda X: X, id="array"),
        pytest.param(torch.tensor, id="tensor"),
        pytest.param(list, id="list"),
        pytest.param(lambda X: TensorDataset(torch.tensor(X)), id="dataset"),
        pytest.param(lambda X: {"x": X}, id="columns"),
        pytest.param(lambda X: [*X[:-1], X[-1][:4]], id="ragged"),
    ],
)
@pytest.mark.parametrize(
    "parameters",
    [{}, {"on_error": "nan"}, {"num_workers": 2}, {"device": ["cpu", "cpu"]}],
    ids=["plain", "nan", "threads", "devices"],
)
def test_any_rows_are_found(container, parameters):
    module, X = time_first(), rows(TOKENS)
    given = container(X)
    extractor = TorchFeatureExtractor(module, layer="inner", output=0, **parameters)
    expected = value_of(module, "inner", 0, X).mean(0)
    Z = extractor.transform(given)
    np.testing.assert_allclose(Z[:-1], expected[:-1], **CLOSE)  # the last may be short


def test_rows_are_found_in_texts_with_their_masks(tokenizer):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(30_522, 4)
            self.block = nn.Identity()

        def forward(self, input_ids, attention_mask):
            return self.block(self.words(input_ids).transpose(0, 1)).transpose(0, 1)

    module = Words()
    texts = ["one", "one two", "one two three", "one two three four"]
    texts += ["five six", "seven"]  # as many as the longest has tokens
    of_layer = TorchFeatureExtractor(module, preprocess=tokenizer, layer="block")
    of_output = TorchFeatureExtractor(module, preprocess=tokenizer)
    np.testing.assert_allclose(
        of_layer.transform(texts), of_output.transform(texts), **CLOSE
    )
    alone = np.concatenate([of_layer.transform([text]) for text in texts])
    np.testing.assert_allclose(of_layer.transform(texts), alone, **CLOSE)


# torch says so where the test makes such a model
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_scripted_model_gives_rows_from_any_axis():
    scripted = torch.jit.trace(nn.Sequential(nn.Linear(3, 4)), torch.ones(2, 5, 3))

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = scripted

        def forward(self, x):
            return self.inner(x).transpose(0, 1)

    X = rows(5, tokens=5)
    expected = scripted(torch.tensor(X)).mean(1).detach()
    Z = TorchFeatureExtractor(Around()).transform(X)
    np.testing.assert_allclose(Z, expected, **CLOSE)


def test_a_callable_gets_the_rows_first_and_the_mask():
    module, X = time_first(), rows(TOKENS)
    seen = []

    def pool(hidden, mask):
        seen.append((tuple(hidden.shape), mask))
        return hidden[:, -1]

    extractor = TorchFeatureExtractor(module, layer="inner", output=0, pooling=pool)
    expected = value_of(module, "inner", 0, X)[-1]
    np.testing.assert_allclose(extractor.transform(X), expected, **CLOSE)
    assert ((TOKENS, TOKENS, TOKENS), None) in seen


def test_a_callable_that_takes_tokens_for_rows_is_refused():
    for n_samples in (4, TOKENS):
        extractor = TorchFeatureExtractor(
            time_first(), layer="inner", output=0, pooling=lambda h, _: h.mean(0)
        )
        with pytest.raises(ValueError, match="gets the rows on the first axis"):
            extractor.transform(rows(n_samples))


@pytest.mark.parametrize("n_samples", [2, 3, 4, TOKENS, 12])
def test_where_no_axis_follows_the_rows_is_an_error_with_both_shapes(n_samples):
    module = nn.Sequential(Positions())
    n_others = 3 if n_samples == 2 else 2
    with pytest.raises(
        ValueError, match="no axis follows the number of rows"
    ) as caught:
        TorchFeatureExtractor(module).transform(rows(n_samples))
    shape = f"shape (1, 9, 4) for {n_samples} rows and (1, 9, 4) for {n_others} rows"
    assert shape in str(caught.value)


class Prototypes(nn.Module):
    """Gives a vector for each of nine classes, whatever the rows are."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(TOKENS * 4.0).reshape(TOKENS, 4))

    def forward(self, x):
        return self.weight + x.mean()


class PositionsOf(nn.Module):
    """Embeds the rows' positions, and adds them: the layer has no axis of rows."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Embedding(TOKENS, 3)

    def forward(self, x):
        return x + self.positions(torch.arange(x.shape[1]))


WITHOUT_ROWS = {
    "mean of rows": (lambda: Returning(lambda x: x.mean(0)), ""),
    "positions": (PositionsOf, "positions"),
    "prototypes": (Prototypes, ""),
    "assignment": (
        lambda: Returning(
            lambda x: torch.ones(TOKENS, x.numel() // 3) @ x.flatten(0, 1)
        ),
        "",
    ),
    "map": (
        lambda: Returning(lambda x: x.mean(0)[:, None, None].repeat(1, 2, 2, 1)),
        "",
    ),
    "numbers": (lambda: Returning(lambda x: x.mean((0, 2))), ""),
    "first rows": (lambda: Returning(lambda x: torch.cat([x, x, x])[:TOKENS]), ""),
}


@pytest.mark.parametrize(
    "pooling",
    ["auto", None, lambda hidden, _: hidden],
    ids=["auto", "None", "callable"],
)
@pytest.mark.parametrize("kind", WITHOUT_ROWS)
def test_as_many_entries_as_rows_by_chance_are_no_rows(kind, pooling):
    make, layer = WITHOUT_ROWS[kind]
    for before in ([], [1], [4]):
        extractor = TorchFeatureExtractor(
            make(), layer=layer or None, pooling=pooling, batch_size=TOKENS
        )
        for n_samples in before:
            with contextlib.suppress(ValueError):
                extractor.transform(rows(n_samples))
        with pytest.raises(ValueError, match=r"one (result|vector) per row"):
            extractor.transform(rows(TOKENS))


def test_a_doubt_is_settled_once_a_model():
    counting = Counting(Returning(lambda x: torch.stack([*x])))  # what shows no rows
    for _ in range(2):
        for extractor in (
            TorchFeatureExtractor(counting),
            TorchFeatureExtractor(counting),
        ):
            assert clone(extractor).transform(rows(5)).shape == (5, 3)
    assert counting.tally.sizes == [5, 2, 5, 5, 5]


def test_a_part_that_is_replaced_is_doubted_again():
    module = nn.Sequential(nn.Identity(), nn.Identity())
    extractor = TorchFeatureExtractor(module)
    assert extractor.transform(rows(TOKENS)[..., 0]).shape == (TOKENS, TOKENS)
    assert extractor.transform(rows(4)).shape == (4, 3)
    module[1] = Returning(lambda x: x.mean(0)[:4])
    with pytest.raises(ValueError, match="one result per row"):
        extractor.transform(rows(4))


@pytest.mark.parametrize("n_samples", [2, 3, 4, 5, 9])
def test_windows_merged_with_rows_are_an_error_that_names_the_way_out(n_samples):
    module, X = nn.Sequential(PerWindow()), rows(n_samples)
    with pytest.raises(ValueError, match="axis 0 has 3 entries for each row") as caught:
        TorchFeatureExtractor(module).transform(X)
    assert f"({3 * n_samples}, 3, 3) for {n_samples} rows" in str(caught.value)
    assert "a callable `pooling`" in str(caught.value)

    def pool(hidden, _):
        return hidden.reshape(len(hidden) // 3, -1, 3).mean(1)

    Z = TorchFeatureExtractor(module, pooling=pool).transform(X)
    np.testing.assert_allclose(Z, X.mean(1), **CLOSE)


def test_rows_that_depend_on_each_other_are_refused():
    module = Returning(lambda x: x.mean(2) @ x.mean(2).T)
    with pytest.raises(ValueError, match="axes 0 and 1 follow it, so that rows depend"):
        TorchFeatureExtractor(module).transform(rows(5))


@pytest.mark.parametrize("n_samples", [2, 5, TOKENS])
def test_a_model_for_one_number_of_rows_is_looked_at_with_it(n_samples):
    X = rows(n_samples)
    X[0, :, 1] = X[0, :, 0]  # not all that is equal are rows
    inner = Returning(lambda x: x.transpose(0, 1))
    Z = TorchFeatureExtractor(OneSizeOnly(inner, n_samples)).transform(X)
    np.testing.assert_allclose(Z, X.mean(1), **CLOSE)
    square = OneSizeOnly(Returning(lambda x: x.mean(2)[:, :n_samples]), n_samples)
    Z = TorchFeatureExtractor(square).transform(X)
    np.testing.assert_allclose(Z, X.mean(2)[:, :n_samples], **CLOSE)
    alike = OneSizeOnly(Returning(lambda x: 0 * x), 3)
    with pytest.raises(ValueError, match="no axis follows the number of rows"):
        TorchFeatureExtractor(alike).transform(rows(3, tokens=3))


def test_an_axis_is_looked_for_again_in_each_call():
    class Turned(nn.Module):
        rows_first = True

        def forward(self, x):
            return x if self.rows_first else x.transpose(0, 1)

    module, X = Turned(), rows(TOKENS)
    extractor = TorchFeatureExtractor(nn.Sequential(module))
    for rows_first in (True, False, True):
        module.rows_first = rows_first
        np.testing.assert_allclose(extractor.transform(X), X.mean(1), **CLOSE)
        for n_samples in (1, 4):
            Z = extractor.transform(X[:n_samples])
            np.testing.assert_allclose(Z, X[:n_samples].mean(1), **CLOSE)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((8, 3), [4, 4]),
        ((8, 4), [4, 2, 4]),
        ((10, 4), [4, 2, 4, 2]),
        ((2, 2), [2, 3]),
        ((1, 4), [1]),
        ((1, 1), [1]),
        ((1, 1, 5), [1]),
        ((6, 5, 3), [4, 2]),
    ],
    ids=str,
)
def test_a_second_look_is_taken_once_a_run_where_sizes_are_equal(shape, sizes):
    counting = Counting()
    TorchFeatureExtractor(counting, batch_size=4).transform(np.ones(shape, np.float32))
    assert counting.tally.sizes == sizes


def test_a_single_row_is_looked_at_once_a_model():
    counting = Counting(Returning(lambda x: x.mean(2)[:, :, None]))
    extractor = TorchFeatureExtractor(counting)
    for _ in range(3):
        assert extractor.transform(rows(1)).shape == (1, 1)
    assert counting.tally.sizes == [1, 2, 1, 1]


def test_a_batch_that_fails_has_its_rows_named():
    class Failing(nn.Module):
        def forward(self, x):
            if bool((x > 50).any()):
                msg = "boom"
                raise RuntimeError(msg)
            return x.transpose(0, 1)

    X = rows(TOKENS)
    X[4] = 99
    with pytest.raises(ForwardError, match="boom"):
        TorchFeatureExtractor(Failing()).transform(X)
    extractor = TorchFeatureExtractor(Failing(), on_error="nan")
    with pytest.warns(UserWarning, match="row 4 of `X` could not be used"):
        Z = extractor.transform(X)
    good = np.arange(TOKENS) != 4
    np.testing.assert_allclose(Z[good], X[good].mean(1), **CLOSE)
    assert np.isnan(Z[4]).all()


def test_layers_of_different_layouts_come_side_by_side():
    X = rows(TOKENS)
    module = nn.Sequential(
        nn.Linear(3, 4), Returning(lambda x: x.transpose(0, 1).relu_())
    )
    expected = module[0](torch.tensor(X)).mean(1).detach().numpy()
    Z = TorchFeatureExtractor(module, layer=["0", "1"]).transform(X)
    np.testing.assert_allclose(Z[:, :4], expected, **CLOSE)
    alone = TorchFeatureExtractor(module, layer="1", batch_size=4).transform(X)
    np.testing.assert_allclose(Z[:, 4:], alone, **CLOSE)
