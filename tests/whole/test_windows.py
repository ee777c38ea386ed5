"""Long texts read in windows: the vector of a row, and all that rows go through."""

import pickle
import weakref

import numpy as np
import pytest
import torch
import transformers as t
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    EmbeddingCache,
    ForwardError,
    TorchFeatureExtractor,
    Windows,
    precompute,
)
from tests.families import IDS, TEXT, WORDS, make_tokenizer

CLOSE = {"rtol": 0, "atol": 1e-5}
SIZE = 12  # tokens of a window, two of them special
ROOM = SIZE - 2
LETTERS = WORDS[4:]
SMALL = {**IDS, "vocab_size": len(WORDS)}
MODELS = {
    "bert": t.BertConfig(**TEXT),
    "roberta": t.RobertaConfig(**TEXT),
    "distilbert": t.DistilBertConfig(
        dim=16, n_layers=2, n_heads=2, hidden_dim=32, **SMALL
    ),
    "mpnet": t.MPNetConfig(**TEXT),
    "electra": t.ElectraConfig(**TEXT, embedding_size=16),
    "albert": t.AlbertConfig(**TEXT, embedding_size=16),
    "deberta": t.DebertaV2Config(
        **TEXT, relative_attention=True, pos_att_type=["p2c", "c2p"]
    ),
    "gpt2": t.GPT2Config(n_embd=16, n_layer=2, n_head=2, **SMALL),
    "opt": t.OPTConfig(
        **{**TEXT, "ffn_dim": 32, "word_embed_proj_dim": 16, "dropout": 0.0}
    ),
    "llama": t.LlamaConfig(**TEXT),
    "qwen2": t.Qwen2Config(**TEXT, num_key_value_heads=2),
    "t5": t.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    ),
    "modernbert": t.ModernBertConfig(
        **{
            **TEXT,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "global_attn_every_n_layers": 2,
        }
    ),
}


def text_of(rng, n_words):
    return " ".join(rng.choice(LETTERS, n_words))


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = SIZE
    return tokenizer


@pytest.fixture(scope="module")
def long_texts():
    rng = np.random.default_rng(0)
    return [text_of(rng, n) for n in (3, 57, ROOM, ROOM + 1, 27, 1, 2 * ROOM)]


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    made = {}
    for name, config in MODELS.items():
        model = t.AutoModel.from_config(config)
        made[name] = (model.get_encoder() if name == "t5" else model).eval()
    return made


@pytest.fixture(scope="module")
def bert(models):
    return models["bert"]


def windows_by_hand(tokenizer, text, overlap=0):
    """Return the ids of each window of a text."""
    ids = [tokenizer.vocab[word] for word in text.split()]
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    start, parts = 0, []
    while True:
        parts.append([cls, *ids[start : start + ROOM], sep])
        if start + ROOM >= len(ids):
            return parts
        start += ROOM - overlap


def hidden_by_hand(model, parts):
    with torch.inference_mode():
        return [
            model(input_ids=torch.tensor([ids])).last_hidden_state[0] for ids in parts
        ]


def joined_by_hand(hidden, pooling, overlap=0):
    """Make of the tokens of windows what becomes of the row."""
    weights = torch.tensor([float(len(one)) for one in hidden])
    if pooling == "max":
        return torch.stack([one.amax(0) for one in hidden]).amax(0)
    if pooling == "last":
        return hidden[-1][-1]
    if pooling is None:
        later = [torch.cat([one[:1], one[1 + overlap :]]) for one in hidden[1:]]
        return torch.cat([hidden[0], *later])
    of_window = {
        "mean": lambda one: one.mean(0),
        "auto": lambda one: one.mean(0),
        "cls": lambda one: one[0],
        spread: lambda one: one.std(0, correction=0),
    }[pooling]
    return (weights[:, None] * torch.stack([*map(of_window, hidden)])).sum(
        0
    ) / weights.sum()


def averaged(vectors, weights):
    """Return the mean of vectors by their weights."""
    return (weights[:, None] * torch.stack(vectors)).sum(0) / weights.sum()


def spread(hidden, mask):
    """Pool as no name does."""
    return torch.stack(
        [
            own[keep.bool()].std(0, correction=0)
            for own, keep in zip(hidden, mask, strict=True)
        ]
    )


@pytest.mark.parametrize("name", MODELS)
def test_rows_equal_those_made_by_hand(name, models, tokenizer, long_texts):
    model = models[name]
    for overlap in (0, 3):
        hidden = [
            hidden_by_hand(model, windows_by_hand(tokenizer, text, overlap))
            for text in long_texts
        ]
        for pooling in ("mean", "auto", "max", "cls", "last", spread, None):
            extractor = TorchFeatureExtractor(
                model,
                preprocess=tokenizer,
                pooling=pooling,
                too_long=Windows(overlap=overlap),
                batch_size=5,
            )
            Z = extractor.transform(long_texts)
            for vector, own in zip(Z, hidden, strict=True):
                expected = joined_by_hand(own, pooling, overlap)
                assert vector.shape == expected.shape
                np.testing.assert_allclose(vector, expected, **CLOSE)


def extractor_of(model, tokenizer, **options):
    options = {"too_long": "windows", "batch_size": 4, **options}
    return TorchFeatureExtractor(model, preprocess=tokenizer, **options)


def test_where_every_row_fits_nothing_is_different(bert, tokenizer, long_texts):
    fitting = [text for text in long_texts if len(text.split()) <= ROOM] * 3
    for pooling in ("mean", None):
        results = [
            extractor_of(bert, tokenizer, too_long=how, pooling=pooling).transform(
                fitting
            )
            for how in ("cut", "warn", "windows", Windows(overlap=2))
        ]
        for other in results[1:]:
            for one, two in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(one, two)


def test_a_row_does_not_depend_on_those_beside_it(bert, tokenizer, long_texts):
    extractor = extractor_of(bert, tokenizer)
    together = extractor.transform(long_texts)
    alone = np.concatenate([extractor.transform([text]) for text in long_texts])
    np.testing.assert_allclose(together, alone, **CLOSE)
    twice = extractor.transform(long_texts[::-1] + long_texts)
    np.testing.assert_allclose(twice[: len(alone)][::-1], alone, **CLOSE)
    np.testing.assert_allclose(twice[len(alone) :], alone, **CLOSE)


def test_vectors_of_the_model_are_averaged_whatever_the_pooling(
    bert, tokenizer, long_texts
):
    expected = []
    for text in long_texts:
        parts = windows_by_hand(tokenizer, text)
        with torch.inference_mode():
            own = [
                bert(input_ids=torch.tensor([ids])).pooler_output[0] for ids in parts
            ]
        weights = torch.tensor([float(len(ids)) for ids in parts])
        expected.append((weights[:, None] * torch.stack(own)).sum(0) / weights.sum())
    for pooling in ("mean", "max", "last", "cls", None):
        extractor = extractor_of(
            bert, tokenizer, output="pooler_output", pooling=pooling
        )
        np.testing.assert_allclose(
            extractor.transform(long_texts), torch.stack(expected), **CLOSE
        )


def test_several_layers_each_follow_their_rule(bert, tokenizer, long_texts):
    layers = ["encoder.layer.0", "pooler"]
    apart = [
        extractor_of(bert, tokenizer, layer=layer, pooling="max").transform(long_texts)
        for layer in layers
    ]
    both = extractor_of(bert, tokenizer, layer=layers, pooling="max")
    np.testing.assert_allclose(
        both.transform(long_texts), np.concatenate(apart, axis=1), **CLOSE
    )


def test_max_length_sets_the_size_of_windows(bert, long_texts):
    longer = make_tokenizer()  # of at most 32 tokens
    shorter = make_tokenizer()
    shorter.model_max_length = SIZE
    expected = extractor_of(bert, shorter).transform(long_texts)
    Z = extractor_of(bert, longer, max_length=SIZE).transform(long_texts)
    np.testing.assert_array_equal(Z, expected)


@pytest.mark.parametrize("overlap", [ROOM, 400])
def test_an_overlap_leaves_something_new_to_a_window(
    bert, tokenizer, long_texts, overlap
):
    extractor = extractor_of(bert, tokenizer, too_long=Windows(overlap=overlap))
    for texts in (long_texts, long_texts[:1]):
        with pytest.raises(ValueError, match=f"less than the {ROOM} .*got {overlap}"):
            extractor.transform(texts)


@pytest.mark.parametrize("pooling", ["flatten", "gap", "gmp"])
def test_poolings_of_whole_rows_are_refused_for_windows(
    bert, tokenizer, long_texts, pooling
):
    extractor = extractor_of(bert, tokenizer, pooling=pooling)
    with pytest.raises(ValueError, match=f"got '{pooling}'.*'cut'"):
        extractor.transform(long_texts)


def test_a_cache_holds_whole_rows(bert, tokenizer, long_texts, tmp_path):
    extractor = extractor_of(bert, tokenizer, cache=EmbeddingCache(tmp_path / "c.db"))
    expected = extractor_of(bert, tokenizer).transform(long_texts)
    for _ in range(2):
        Z = extractor.transform(long_texts)
        np.testing.assert_allclose(Z, expected, **CLOSE)
    stats = extractor.cache.stats()
    assert (stats["rows"], stats["hits"]) == (len(long_texts),) * 2
    for other in ("cut", Windows(overlap=1)):
        extractor.set_params(too_long=other).transform(long_texts)
    assert extractor.cache.stats()["rows"] == 3 * len(long_texts)
    whole = Windows(overlap=0)
    extractor.set_params(too_long=whole).transform(long_texts)
    assert extractor.cache.stats()["rows"] == 3 * len(long_texts)


def test_tokens_of_windows_come_back_from_a_cache(
    bert, tokenizer, long_texts, tmp_path
):
    extractor = extractor_of(bert, tokenizer, pooling=None, cache=tmp_path / "c.db")
    first, again = extractor.transform(long_texts), extractor.transform(long_texts)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert len(first[1]) == 57 + 2 * 6


def test_precompute_takes_all_layers_and_poolings_in_one_pass(
    bert, tokenizer, long_texts, tmp_path
):
    pipe = make_pipeline(
        extractor_of(bert, tokenizer, cache=tmp_path / "c.db"), LogisticRegression()
    )
    name = "torchfeatureextractor__"
    grid = {
        f"{name}pooling": ["mean", "max"],
        f"{name}layer": ["encoder.layer.0", "encoder.layer.1"],
        f"{name}too_long": ["cut", "windows", Windows(overlap=2)],
    }
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise")
    texts, y = long_texts + [text + " a" for text in long_texts], [0, 1] * 7
    done = precompute(search, texts)
    assert (done.n_settings, done.n_passes, done.n_run) == (12, 3, 3 * len(texts))
    assert precompute(search, texts).n_run == 0
    before = EmbeddingCache(tmp_path / "c.db").stats()["rows"]
    search.fit(texts, y)
    assert EmbeddingCache(tmp_path / "c.db").stats()["rows"] == before


def test_a_file_holds_whole_rows(bert, tokenizer, long_texts, tmp_path):
    extractor = extractor_of(bert, tokenizer)
    Z = extractor.transform_to_file(long_texts, tmp_path / "z.npy")
    np.testing.assert_array_equal(Z, extractor.transform(long_texts))


def test_windows_of_a_model_of_one_length_are_padded_to_it(tokenizer, long_texts):
    torch.manual_seed(0)
    config = t.SiglipTextConfig(**TEXT, max_position_embeddings=SIZE)
    model = t.SiglipTextModel(config).eval()
    expected = []
    for text in long_texts:
        parts = windows_by_hand(tokenizer, text)
        padded = tokenizer.pad(
            {"input_ids": parts},
            padding="max_length",
            max_length=SIZE,
            return_tensors="pt",
        )
        with torch.inference_mode():
            vectors = model(**padded).pooler_output
        weights = padded["attention_mask"].sum(1).float()
        expected.append(averaged([*vectors], weights))
    extractor = extractor_of(model, tokenizer, output="pooler_output")
    np.testing.assert_allclose(
        extractor.transform(long_texts), torch.stack(expected), **CLOSE
    )


class Refusing(nn.Module):
    """Fails on a token, or for want of memory on more tokens than fit."""

    def __init__(self, refused=-1, most=10**9):
        super().__init__()
        self.embed = nn.Embedding(len(WORDS), 4)
        self.refused = refused
        self.most = most

    def forward(self, input_ids, attention_mask):
        if bool((input_ids == self.refused).any()):
            msg = "no such token"
            raise RuntimeError(msg)
        if input_ids.numel() > self.most:
            raise torch.OutOfMemoryError
        return self.embed(input_ids)


def with_bad_window(texts, tokenizer):
    """Put a word into the third window of the second text."""
    words = texts[1].split()
    words[2 * ROOM + 1] = "p"
    bad = [text.replace("p", "a") for text in texts]
    bad[1] = " ".join(words[: 2 * ROOM]).replace("p", "a")
    bad[1] += " " + " ".join(words[2 * ROOM :])
    return bad, tokenizer.vocab["p"]


def test_a_bad_window_is_named_with_its_row(tokenizer, long_texts):
    texts, refused = with_bad_window(long_texts, tokenizer)
    extractor = extractor_of(Refusing(refused), tokenizer)
    place = f"window 3 of row 1, tokens {2 * ROOM} to {3 * ROOM}"
    with pytest.raises(ForwardError, match=f"failed on {place}"):
        extractor.transform(texts)


@pytest.mark.parametrize("pooling", ["mean", None])
def test_a_row_with_a_bad_window_is_bad(tokenizer, long_texts, pooling):
    texts, refused = with_bad_window(long_texts, tokenizer)
    extractor = extractor_of(
        Refusing(refused), tokenizer, on_error="nan", pooling=pooling
    )
    with pytest.warns(BadRowWarning, match="row 1 of `X`.*window 3 of row 1, tokens"):
        Z = extractor.transform(texts)
    assert [bool(np.isnan(row).all()) for row in Z] == [row == 1 for row in range(7)]
    expected = extractor_of(extractor.model, tokenizer, pooling=pooling)
    good = texts[:1] + texts[2:]
    for one, two in zip([*Z[:1], *Z[2:]], expected.transform(good), strict=True):
        np.testing.assert_allclose(one, two, **CLOSE)


def test_windows_too_many_for_the_memory_come_in_halves(tokenizer, long_texts):
    small, large = Refusing(most=2 * SIZE), Refusing()
    large.load_state_dict(small.state_dict())
    Z = extractor_of(small, tokenizer, batch_size=32).transform(long_texts)
    np.testing.assert_allclose(
        Z, extractor_of(large, tokenizer).transform(long_texts), **CLOSE
    )


class Drawing(nn.Module):
    """Draws numbers in eval mode as well."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(len(WORDS), 4)

    def forward(self, input_ids, attention_mask):
        return nn.functional.dropout(self.embed(input_ids), 0.5, training=True)


@pytest.mark.parametrize(
    "options", [{}, {"num_workers": 2}, {"device": ["cpu", "cpu"]}], ids=str
)
def test_rows_are_the_same_however_windows_run(tokenizer, long_texts, options):
    for model in (Refusing(), Drawing()):
        expected = extractor_of(model, tokenizer, batch_size=1).transform(long_texts)
        extractor = extractor_of(model, tokenizer, batch_size="auto", **options)
        np.testing.assert_allclose(extractor.transform(long_texts), expected, **CLOSE)


def test_settings_of_windows_travel(bert, tmp_path):
    extractor = extractor_of(bert, None, too_long=Windows(overlap=3), max_length=16)
    extractor.save(tmp_path / "saved")
    loaded = TorchFeatureExtractor.load(tmp_path / "saved", bert)
    pickled = pickle.loads(pickle.dumps(extractor))  # noqa: S301 - our own
    for other in (loaded, clone(extractor), pickled):
        assert other.get_params()["too_long"] == Windows(overlap=3)
        assert other.max_length == 16
    assert "Windows(overlap=3)" in repr(extractor)
    assert "Windows(overlap=3)" in extractor._repr_html_()


def test_progress_counts_rows(bert, tokenizer, long_texts, capsys):
    extractor = extractor_of(bert, tokenizer, verbose=1)
    extractor.transform(long_texts)
    shown = capsys.readouterr().err
    assert f"{len(long_texts)}/{len(long_texts)}" in shown or "7 rows" in shown


class Remembered(nn.Module):
    """Returns memory of NumPy, of which weak references tell whether it is alive."""

    def __init__(self, arrays):
        super().__init__()
        self.embed = nn.Embedding(len(WORDS), 16)
        self.arrays = lambda: arrays

    def forward(self, input_ids, attention_mask):
        array = self.embed(input_ids).numpy().copy()
        self.arrays().append(weakref.ref(array))
        alive = [one() for one in self.arrays()]
        n_bytes = sum(one.nbytes for one in alive if one is not None)
        self.arrays.most = max(getattr(self.arrays, "most", 0), n_bytes)
        return torch.from_numpy(array)


def test_a_document_of_100_000_tokens_is_pooled_window_by_window():
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 512
    text = text_of(np.random.default_rng(1), 100_000)
    model = Remembered([])
    Z = extractor_of(model, tokenizer, batch_size=8).transform([text])
    assert len(model.arrays()) > 100_000 // 512 // 8
    assert model.arrays.most <= 2 * 8 * 512 * 16 * 4  # of two batches
    ids = torch.tensor([tokenizer.vocab[word] for word in text.split()])
    parts = [2, 3]
    with torch.no_grad():
        total = model.embed(ids).double().sum(0)
        around = model.embed(torch.tensor(parts)).double().sum(0)
    n_windows = -(-100_000 // 510)
    expected = (total + n_windows * around) / (100_000 + 2 * n_windows)
    np.testing.assert_allclose(Z[0], expected, **CLOSE)
