"""Without a pooling, texts and ragged rows keep their own tokens, and no padding."""

import sqlite3

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    ConversionError,
    EmbeddingCache,
    TensorToArray,
    TorchFeatureExtractor,
    precompute,
    stats,
    to_numpy,
)
from sklearn_torch_bridge.inspection import (
    DriftDisplay,
    EmbeddingDisplay,
    batch_sensitivity,
    layer_scores,
)
from tests.tiny_models import Items, Letters

SAME = {"rtol": 1e-5, "atol": 1e-5}
TEXTS = ["cab", "a", "dead beef", "bad", "a", "cabbage", "feed", "bead"]


class Reads(nn.Module):
    """A small Transformer, whose padded places hold noise; rows of letters go in."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.letters = nn.Embedding(128, 4)
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pool = nn.Linear(4, 3)
        self.eval()

    def forward(self, input_ids, attention_mask):
        hidden = self.encoder(
            self.letters(input_ids), src_key_padding_mask=attention_mask == 0
        )
        hidden = hidden + (1 - attention_mask[..., None]) * hidden.shape[1]
        return {"last_hidden_state": hidden, "pooled": self.pool(hidden[:, 0])}


MODEL = Reads()


def ids_of(text):
    return [ord(letter) for letter in text]


def alone(row):
    """Return what the model gives for a row of ids without padding."""
    ids = torch.tensor([row])
    with torch.inference_mode():
        return MODEL(ids, torch.ones_like(ids))["last_hidden_state"][0].numpy()


EXPECTED = [alone(ids_of(text)) for text in TEXTS]


def assert_entries(Z, expected, dtype="float32"):
    assert (Z.shape, Z.dtype) == ((len(expected),), object)
    assert [entry.shape for entry in Z] == [entry.shape for entry in expected]
    for entry, own in zip(Z, expected, strict=True):
        assert entry.dtype == dtype
        assert entry.flags.owndata  # no view that keeps a batch
        assert entry.flags.writeable
        np.testing.assert_allclose(entry, own, **SAME)


def of_texts(**options):
    return TorchFeatureExtractor(MODEL, preprocess=Letters(), pooling=None, **options)


def padded(rows, *, left=False, length=None):
    length = length or max(map(len, rows))
    ids, mask = np.full((2, len(rows), length), 7)
    for row, own in enumerate(rows):
        place = slice(length - len(own), None) if left else slice(0, len(own))
        mask[row] = 0
        ids[row, place], mask[row, place] = own, 1
    return {"input_ids": ids, "attention_mask": mask}


def items_of(columns):
    n_rows = len(columns["input_ids"])
    return Items(
        [
            {name: column[row] for name, column in columns.items()}
            for row in range(n_rows)
        ]
    )


ROWS = [ids_of(text) for text in TEXTS]
RAGGED = {"input_ids": ROWS, "attention_mask": [[1] * len(row) for row in ROWS]}
DRESSES = {
    "texts": (TEXTS, Letters()),
    "Dataset of texts": (Items(TEXTS), Letters()),
    "own tokenizer": (TEXTS, lambda texts: padded([ids_of(text) for text in texts])),
    "ids": (ROWS, None),
    "arrays of ids": ([np.array(row) for row in ROWS], None),
    "padded mapping": (padded(ROWS), None),
    "longer mapping": (padded(ROWS, length=20), None),
    "ragged mapping": (RAGGED, None),
    "padded Dataset": (items_of(padded(ROWS)), None),
    "ragged Dataset": (
        items_of({name: [*map(np.array, rows)] for name, rows in RAGGED.items()}),
        None,
    ),
    "rows for a preprocess": (
        [{"ids": row} for row in ROWS],
        lambda rows: padded([row["ids"] for row in rows]),
    ),
}


@pytest.mark.parametrize("dress", DRESSES)
def test_an_entry_has_the_real_tokens_of_its_row(dress, tmp_path):
    X, preprocess = DRESSES[dress]
    for options in (
        *({}, {"batch_size": 1}, {"batch_size": 3}, {"batch_size": "auto"}),
        *({"num_workers": 1}, {"on_error": "nan"}, {"device": ["cpu", "cpu"]}),
        *({"cache": tmp_path / "e.db", "cache_key": "a"}, {"dtype": "float64"}),
    ):
        dtype = options.get("dtype", "float32")
        extractor = TorchFeatureExtractor(
            MODEL, preprocess=preprocess, pooling=None, **options
        )
        assert_entries(extractor.fit_transform(X), EXPECTED, dtype)
        assert_entries(extractor.transform(X), EXPECTED, dtype)


def test_a_mapping_may_be_padded_on_the_left():
    X = padded(ROWS, left=True)
    found = TorchFeatureExtractor(MODEL, pooling=None).transform(X)
    named = TorchFeatureExtractor(MODEL, pooling="mean").transform(X)
    assert [len(entry) for entry in found] == [len(row) for row in ROWS]
    np.testing.assert_allclose([entry.mean(0) for entry in found], named, **SAME)


def test_texts_of_one_length_one_text_and_none_have_entries_too():
    extractor = of_texts()
    assert_entries(
        extractor.transform(["abc", "bad"]), [*map(alone, map(ids_of, ["abc", "bad"]))]
    )
    assert_entries(extractor.transform(["a"]), [EXPECTED[1]])
    for again in (extractor, extractor.fit(TEXTS)):
        empty = again.transform([])
        assert (empty.shape, empty.dtype) == ((0,), object)


def test_rows_of_one_length_under_a_mask_are_one_array():
    extractor = TorchFeatureExtractor(MODEL, pooling=None)
    Z = extractor.transform(padded([[1, 2], [3, 4]], length=6))
    np.testing.assert_allclose(Z, [alone([1, 2]), alone([3, 4])], **SAME)
    empty = {name: column[:0] for name, column in padded(ROWS).items()}
    assert extractor.transform(empty).shape == (0, 9, 4)


def test_a_vector_for_each_text_is_a_row_of_a_table(tmp_path):
    table = of_texts(output="pooled", cache=tmp_path / "e.db")
    Z = table.fit_transform(TEXTS)
    expected = TorchFeatureExtractor(
        MODEL, preprocess=Letters(), output="pooled"
    ).transform(TEXTS)
    np.testing.assert_allclose(Z, expected, **SAME)
    np.testing.assert_array_equal(table.transform(TEXTS), Z)
    for extractor in (table, of_texts(output="pooled")):  # fitted, and not
        path = tmp_path / f"{hasattr(extractor, '_no_rows')}.npy"
        np.testing.assert_allclose(
            extractor.transform_to_file(TEXTS, path), expected, **SAME
        )
    assert len(table.get_feature_names_out()) == 3


def test_layers_are_put_side_by_side_token_by_token(tmp_path):
    one, two = "encoder.layers.0", "encoder.layers.1"
    parts = [of_texts(layer=layer).transform(TEXTS) for layer in (one, two)]
    expected = [np.hstack(pair) for pair in zip(*parts, strict=True)]
    both = of_texts(layer=[one, two], cache=tmp_path / "e.db")
    assert_entries(both.fit_transform(TEXTS), expected)
    assert_entries(both.transform(TEXTS[::-1]), expected[::-1])
    kept = of_texts(layer=one, cache=tmp_path / "e.db")
    assert_entries(kept.transform(TEXTS), parts[0])
    with pytest.raises(ValueError, match=r"as many tokens each, .* \(9, 4\), \(3,\)"):
        of_texts(layer=[one, "pool"]).transform(TEXTS)


def test_a_later_layer_that_works_in_place_changes_no_tokens():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.letters = nn.Embedding(128, 4)
            self.act = nn.ReLU(inplace=True)

        def forward(self, input_ids, attention_mask):
            del attention_mask
            return self.act(self.letters(input_ids))

    model = InPlace()
    both = TorchFeatureExtractor(
        model, preprocess=Letters(), pooling=None, layer=["letters", "act"]
    )
    letters = model.letters.weight.detach().numpy()
    for text in ("bad", "cabbage"):
        own = letters[ids_of(text)]
        (entry,) = both.transform([text])
        np.testing.assert_allclose(entry, np.hstack([own, own.clip(0)]), **SAME)


def test_rows_that_could_not_be_used_are_one_token_of_nan(tmp_path):
    extractor = of_texts(on_error="nan")
    with pytest.warns(BadRowWarning, match="rows 0, 2 of"):
        Z = extractor.fit_transform([None, "cab", ""])
    assert [entry.shape for entry in Z] == [(1, 4), (3, 4), (1, 4)]
    assert np.isnan(Z[0]).all()
    assert np.isnan(Z[2]).all()
    np.testing.assert_allclose(Z[1], EXPECTED[0], **SAME)
    extractor.save(tmp_path / "saved")
    loaded = TorchFeatureExtractor.load(
        tmp_path / "saved", Reads(), preprocess=Letters()
    )
    for again in (extractor, loaded):
        with pytest.warns(BadRowWarning, match="rows 0 to 1"):
            Z = again.transform([None, None])
        assert [entry.shape for entry in Z] == [(1, 4), (1, 4)]
    integers = TorchFeatureExtractor(Whole(), pooling=None, on_error="nan", dtype=None)
    with pytest.raises(ValueError, match=r"gives int64\. Ask for dtype='float64'"):
        integers.transform([[1], [1, 2], None])


class Whole(nn.Module):
    def forward(self, x):
        return x[..., None]


def test_entries_go_in_as_ragged_rows():
    class Last(nn.Module):
        def forward(self, x, attention_mask):
            return x.cumsum(1) * attention_mask[..., None]

    pipe = make_pipeline(of_texts(), TorchFeatureExtractor(Last(), pooling="last"))
    expected = [entry.sum(0) for entry in EXPECTED]
    np.testing.assert_allclose(pipe.fit_transform(TEXTS), expected, **SAME)
    pipe = make_pipeline(of_texts(), TorchFeatureExtractor(Last(), pooling=None))
    assert_entries(pipe.fit_transform(TEXTS), [entry.cumsum(0) for entry in EXPECTED])


@pytest.mark.parametrize("n_channels", [1, 3, 4, 7, 9])
def test_channels_as_many_as_tokens_are_not_taken_for_them(n_channels, cache):
    """The mask fits by chance: batches of another length show which axis is which."""

    class Convolved(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.letters = nn.Embedding(128, 4)
            self.conv = nn.Conv1d(4, n_channels, 3, padding=2)

        def forward(self, input_ids, attention_mask):
            hidden = self.letters(input_ids) * attention_mask[..., None]
            return self.conv(hidden.transpose(1, 2))

    model, tokenizer = Convolved(), Letters()
    expected = []
    for text in TEXTS:
        ids = torch.tensor([ids_of(text)])
        expected.append(model(ids, torch.ones_like(ids))[0].detach().numpy())
    for options in ({}, {"batch_size": 1}, {"batch_size": 3}, {"cache": cache}):
        extractor = TorchFeatureExtractor(
            model, preprocess=tokenizer, pooling=None, **options
        )
        assert_entries(extractor.fit_transform(TEXTS), expected)
        assert_entries(extractor.transform(TEXTS[::-1]), expected[::-1])
    with pytest.raises(ValueError, match=r"one output a token, .* for 20 tokens"):
        TorchFeatureExtractor(model, pooling=None).transform(padded(ROWS, length=20))


@pytest.mark.parametrize("width", [1, 3, 4, 7, 9])
def test_vectors_as_wide_as_there_are_tokens_are_vectors(width):
    class Summed(nn.Module):
        def forward(self, input_ids, attention_mask):
            return (input_ids * attention_mask).sum(1)[:, None].expand(-1, width)

    extractor = TorchFeatureExtractor(Summed(), preprocess=Letters(), pooling=None)
    expected = [[sum(row)] * width for row in ROWS]
    np.testing.assert_array_equal(extractor.transform(TEXTS), expected)


def test_one_number_a_token_is_refused():
    class Scalars(nn.Module):
        def forward(self, input_ids, attention_mask):
            return input_ids + attention_mask

    extractor = TorchFeatureExtractor(Scalars(), preprocess=Letters(), pooling=None)
    with pytest.raises(ValueError, match="got one number a token, of shape"):
        extractor.transform(TEXTS)


def test_arrays_that_differ_in_shape_have_an_entry_each(rng):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)
    rows = [rng.normal(size=(3, 8 + n % 2, 9)).astype("f4") for n in range(5)]
    expected = [conv(torch.tensor(row)[None])[0].detach().numpy() for row in rows]
    stacked = {"preprocess": lambda some: torch.stack([*map(torch.tensor, some)])}
    for X, options in (
        *((rows, {}), (Items(rows), {}), (rows, stacked), (rows, {"batch_size": 1})),
        *((Items(rows), {"batch_size": 1}), (rows, {"batch_size": 1, **stacked})),
    ):
        extractor = TorchFeatureExtractor(conv, pooling=None, **options)
        assert_entries(extractor.fit_transform(X), expected)
    even = TorchFeatureExtractor(conv, pooling=None).transform(Items(rows[::2]))
    np.testing.assert_allclose(even, expected[::2], **SAME)


def test_a_preprocess_that_hides_its_padding_is_refused():
    model = Whole()

    def hides(texts):
        columns = padded([ids_of(text) for text in texts])
        return columns["input_ids"].astype("f4")

    extractor = TorchFeatureExtractor(
        model, preprocess=hides, pooling=None, batch_size=2
    )
    with pytest.raises(ValueError, match="Pool rows of different length"):
        extractor.transform(TEXTS)


# What is made for tables -----------------------------------------------------------


def test_entries_are_no_table(tmp_path):
    extractor = of_texts().fit(TEXTS)
    with pytest.raises(AttributeError, match=r"differ in length, of shape \(n_tok"):
        extractor.get_feature_names_out()
    for container in ("pandas", "polars"):
        framed = of_texts().set_output(transform=container)
        with pytest.raises(ValueError, match="a frame has two axes"):
            framed.fit_transform(TEXTS)
    folder = tmp_path / "files"
    folder.mkdir()
    for one in (extractor, of_texts()):
        with pytest.raises(ValueError, match="must not be None for a file"):
            one.transform_to_file(TEXTS, folder / "Z.npy")
    assert not [*folder.iterdir()]
    masked = TorchFeatureExtractor(MODEL, pooling=None)
    with pytest.raises(ValueError, match=r"results of one shape, .* of row 1 of"):
        masked.transform_to_file(padded(ROWS), tmp_path / "Z.npy")
    Z = masked.transform_to_file(padded([[1, 2], [3, 4]]), tmp_path / "even.npy")
    assert Z.shape == (2, 2, 4)


def test_what_takes_vectors_refuses_entries():
    Z = of_texts().transform(TEXTS)
    words = "has an array for each row"
    for use in (to_numpy, stats.effective_rank, EmbeddingDisplay.from_embeddings):
        with pytest.raises(ConversionError, match=words):
            use(Z)
        with pytest.raises(ConversionError, match=words):
            use(Z[[1, 4]])  # of one length: they were joined, a row a token
    with pytest.raises(ValueError, match="must hold equal shapes"):
        TensorToArray().fit_transform(Z)
    with pytest.raises(ConversionError, match=words):
        DriftDisplay.from_estimator(of_texts(), TEXTS, TEXTS)
    layers = of_texts(layer=["encoder.layers.0", "encoder.layers.1"])
    with pytest.raises(ValueError, match=r"one vector per row, .* an array for each"):
        layer_scores(layers, TEXTS, [0, 1] * 4, estimator=LogisticRegression())
    assert batch_sensitivity(of_texts(), TEXTS).largest < 1e-5


def test_the_cache_keeps_entries_of_any_length(tmp_path):
    path = tmp_path / "e.db"
    done = precompute(of_texts(cache=path), TEXTS)
    assert (done.n_run, done.n_known) == (7, 0)  # one text comes twice
    kept = of_texts(cache=path)
    assert_entries(kept.transform(TEXTS), EXPECTED)
    assert precompute(kept, TEXTS).n_run == 0
    assert_entries(kept.transform(["new", *TEXTS]), [alone(ids_of("new")), *EXPECTED])
    assert_entries(kept.transform(TEXTS[1:2]), EXPECTED[1:2])
    EmbeddingCache(path).close()
    with sqlite3.connect(path) as file:
        file.execute("UPDATE rows SET data = zeroblob(length(data)) WHERE id < 5")
    file.close()
    assert precompute(kept, TEXTS).n_run >= 3
    assert_entries(kept.transform(TEXTS), EXPECTED)
