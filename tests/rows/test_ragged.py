"""Arrays that differ in shape: one dtype for all, padded under a mask."""

import numpy as np
import pytest
import torch
import transformers as t
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    TorchFeatureExtractor,
    Windows,
    precompute,
)
from sklearn_torch_bridge._rows._ragged import RAGGED, RaggedFeed
from sklearn_torch_bridge.models import AcceptedInputs
from tests.rows import given_rows
from tests.tiny_models import Counting, Tally


@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        ([np.ones(2), None, np.ones(3)], TypeError, "row 1 is missing"),
        ([np.ones(2), "a", np.ones(3)], TypeError, "row 1 is a str"),
        ([np.ones((2, 3)), np.ones(4)], ValueError, r"row 1 has shape \(4,\)"),
        ([np.ones((2, 3)), np.ones((2, 0))], ValueError, r"row 1 has shape \(2, 0\)"),
        ([[[1], [2]], [[1, 2], [3]], [[4]]], TypeError, "row 1 is a list"),
        ([np.ones(2), np.ones(0)], ValueError, r"row 1 has shape \(0,\)"),
        ([np.ones(2), np.ones(())], ValueError, r"row 1 has shape \(\)"),
        ([np.ones(2), np.array([np.nan])], ValueError, "row 1 has NaN or infinity"),
        ([torch.ones(2), torch.tensor([torch.inf])], ValueError, "row 1 has NaN or"),
        ([np.ones(2), np.ones(3) * 1j], ValueError, "row 1 is of dtype complex128"),
        ([torch.ones(2), torch.ones(3) * 1j], ValueError, "is of dtype torch.complex"),
        ([np.ones(2), np.array(["a"])], ValueError, "row 1 is of dtype <U1"),
    ],
    ids=[
        *("missing", "text", "other axes", "no width", "uneven lists", "empty"),
        *("number", "NaN", "infinity"),
        *("complex", "complex tensor", "str"),
    ],
)
def test_a_row_that_is_no_array_like_the_others_is_named(X, error, words):
    with pytest.raises(error, match=words):
        RAGGED.check(given_rows(X))
    checked = RAGGED.check(given_rows(X, on_error="nan"))
    assert checked.bad.tolist() == [1]
    assert len(checked) == len(X) - 1


@pytest.mark.parametrize("make", [np.asarray, torch.tensor], ids=["array", "tensor"])
def test_ragged_rows_have_one_dtype_whoever_shares_their_batch(make):
    some = [make([1, 2, 3]), make([0.5, 0.75])]
    rows = RAGGED.check(given_rows(some)).values
    assert {row.dtype for row in rows} == {torch.float64}
    assert [row.tolist() for row in rows] == [[1, 2, 3], [0.5, 0.75]]
    half = torch.tensor([0.5], dtype=torch.float16)
    large = RAGGED.check(given_rows([make([2**24 + 1, 70_000]), half])).values
    assert large[0].tolist() == [2**24 + 1, 70_000]
    narrow = [make([1.0, 2.0]), make([3.0])]
    assert RAGGED.check(given_rows(narrow)).values[0] is narrow[0]


def test_ragged_rows_of_any_order_get_one_dtype():
    frozen = np.arange(3)
    frozen.flags.writeable = False
    given = [
        frozen,
        np.arange(4, dtype=">i4")[::-1],
        np.arange(2, dtype=np.uint32),
        np.array([0.5], np.longdouble),
    ]
    rows = RAGGED.check(given_rows(given)).values
    assert [row.tolist() for row in rows] == [[0, 1, 2], [3, 2, 1, 0], [0, 1], [0.5]]
    assert {row.dtype for row in rows} == {torch.float64}


def test_integers_of_several_widths_are_widened_without_those_that_are_bad():
    some = [np.ones(2, np.uint8), np.full(1, -3, np.int16), np.ones(0)]
    checked = RAGGED.check(given_rows(some, on_error="nan"))
    rows = checked.values
    assert checked.bad.tolist() == [2]
    assert [row.tolist() for row in rows] == [[1, 1], [-3]]
    assert rows[0].dtype == rows[1].dtype == torch.int16


SAME = {"rtol": 1e-5, "atol": 1e-5}


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
    conv = nn.Conv1d(1, 5, 3, padding=1)
    counting = Counting(nn.Sequential(nn.Unflatten(1, (1, -1)), conv))
    waves = [rng.normal(size=length) for length in (9, 4, 9, 30, 4, 9)]
    Z = TorchFeatureExtractor(counting, pooling="gap").transform(waves)
    for row, wave in enumerate(waves):
        x = torch.tensor(wave, dtype=torch.float32)[None, None]
        expected = conv(x).mean(2).detach().numpy()
        np.testing.assert_allclose(Z[[row]], expected, **SAME)
    assert counting.tally.sizes == [1, 3, 2]


def test_ragged_rows_that_are_none_are_bad_rows(rng):
    rows = [*ragged(rng, 4), None, np.ones((2, 5)), np.ones((0, 4))]
    extractor = TorchFeatureExtractor(Masked(), on_error="nan")
    with pytest.warns(BadRowWarning, match="rows 4 to 6 of"):
        Z = extractor.transform(rows)
    assert np.isnan(Z).any(1).tolist() == [False] * 4 + [True] * 3


BART = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}


@pytest.mark.parametrize(
    "make",
    [
        lambda: t.MBartModel(t.MBartConfig(vocab_size=30, **BART)),
        lambda: t.PLBartModel(t.PLBartConfig(vocab_size=30, **BART)),
        lambda: t.FSMTModel(
            t.FSMTConfig(
                langs=["en", "de"], src_vocab_size=30, tgt_vocab_size=30, **BART
            )
        ),
    ],
    ids=["mbart", "plbart", "fsmt"],
)
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_ids_are_padded_as_the_model_was_trained(make, dtype):
    """Then they may share a batch; padded with 0 they would have other vectors."""
    torch.manual_seed(0)
    model, calls = make().eval(), Tally()
    model.register_forward_pre_hook(lambda _, args: calls(len(args[0])))
    rows = [np.arange(5, 5 + n, dtype=dtype) for n in (3, 9, 5, 7)]
    Z = TorchFeatureExtractor(model, output="last_hidden_state").transform(rows)
    assert calls.sizes[-1] == len(rows)
    with torch.inference_mode():
        ids = [torch.tensor(row[None], dtype=torch.int64) for row in rows]
        alone = [model(one).last_hidden_state.mean(1) for one in ids]
    np.testing.assert_allclose(Z, np.concatenate(alone), **SAME)


class Padded(Masked):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 2, padding_idx=7)


@pytest.mark.parametrize(
    ("row", "filled"),
    [
        (np.array([1]), 7),
        (torch.tensor([1]), 7),
        (np.array([1.0]), 0),
        (np.array([True]), 0),
        (np.array([[1, 2]]), 0),
    ],
    ids=["array", "tensor", "floats", "flags", "vectors"],
)
def test_only_ids_are_padded_with_that_of_padding(row, filled):
    rows = [row, np.concatenate([row, row])]
    batch = RaggedFeed(rows, AcceptedInputs(Padded())).batch(np.array([1, 0]))
    assert (batch.args[0][1, 1] == filled).all()


class Scaled(nn.Module):
    """Multiplies by weights of any dtype, under a mask."""

    def __init__(self, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2).to(dtype), requires_grad=False)

    def forward(self, x, attention_mask=None):
        return x.float() * self.weight.float()


@pytest.mark.parametrize("given", [torch.float32, torch.float8_e8m0fnu])
def test_a_dtype_without_zero_has_padding(given):
    rows = [torch.full((n, 2), 2.0**n).to(given) for n in (1, 3, 2)]
    extractor = TorchFeatureExtractor(Scaled(torch.float8_e8m0fnu), batch_size=3)
    expected = [[2.0**n] * 2 for n in (1, 3, 2)]
    np.testing.assert_array_equal(extractor.transform(rows), expected)


class Encoder(nn.Module):
    """Mixes the steps of a row, under a mask."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.TransformerEncoderLayer(4, 1, 8, batch_first=True)

    def forward(self, steps, src_key_padding_mask):
        return self.mix(steps, src_key_padding_mask=src_key_padding_mask)


class Maskless(Encoder):
    def forward(self, steps):
        return self.mix(steps)


@pytest.mark.parametrize("overlap", [0, 2])
@pytest.mark.parametrize("kind", [Encoder, Maskless])
def test_long_rows_are_read_in_windows_of_max_length(rng, kind, overlap):
    model = kind().eval()
    rows = [rng.normal(size=(n, 4)).astype("float32") for n in (3, 19, 6, 7, 13)]

    def by_hand(row):
        ends = [6]
        while ends[-1] < len(row):
            ends.append(ends[-1] + 6 - overlap)
        with torch.inference_mode():
            return [
                model.mix(torch.from_numpy(row[None, end - 6 : end]))[0] for end in ends
            ]

    options = {"max_length": 6, "too_long": Windows(overlap=overlap), "batch_size": 3}
    for pooling in ("mean", "max", None):
        Z = TorchFeatureExtractor(model, pooling=pooling, **options).transform(rows)
        for vector, row in zip(Z, rows, strict=True):
            parts = by_hand(row)
            if pooling == "mean":
                weights = torch.tensor([[float(len(one))] for one in parts])
                means = torch.stack([one.mean(0) for one in parts])
                expected = (weights * means).sum(0) / weights.sum()
            elif pooling == "max":
                expected = torch.cat(parts).amax(0)
            else:
                expected = torch.cat([parts[0], *(one[overlap:] for one in parts[1:])])
            np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-5)


def test_integers_that_a_window_would_round_are_named_with_their_row():
    rows = [np.ones(3), np.array([1, 2, 3, 2**24 + 1, 5]), np.ones(2)]
    extractor = TorchFeatureExtractor(
        Rows(), max_length=3, too_long="windows", pooling=None
    )
    with pytest.raises(ValueError, match=f"row 1, values 3 to 5 has the .*{2**24 + 1}"):
        extractor.transform(rows)


class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, rows):
        return (rows * self.weight)[..., None]
