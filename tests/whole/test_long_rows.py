"""Nothing is cut in silence: rows around the maximum, of every kind that has one.

By each of its doors a row is given what the library's own cut gives, and is named.
"""

import itertools
import pickle
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import transformers as t
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    TorchFeatureExtractor,
    TruncationWarning,
    precompute,
)
from sklearn_torch_bridge._results import FileSink
from tests.families import make_tokenizer
from tests.tiny_models import Items

MOST = 12
LENGTHS = [MOST - 1, MOST, MOST + 1, 2 * MOST, 3, 5 * MOST]
CUT = [row for row, length in enumerate(LENGTHS) if length > MOST]
SIZES = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": MOST,
}

pytestmark = pytest.mark.filterwarnings(
    # transformers asks the interpreter for its platform in a way that is deprecated.
    "ignore:.*is deprecated:FutureWarning"
)


class Waves(nn.Module):
    """Takes what an extractor makes of sound."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(1, 2, 3))

    def forward(self, input_features):
        found = (input_features.mean((1, 2)), input_features.std((1, 2)))
        return torch.stack(found, 1) * self.weight[:2]


class Steps(nn.Module):
    def forward(self, x, attention_mask):
        return x * attention_mask[..., None]


def texts_of(lengths):
    letters = "abcdefghijklmnop"
    words = itertools.cycle(letters)
    return [" ".join(next(words) for _ in range(length - 2)) for length in lengths]


def bert(**sizes):
    torch.manual_seed(0)
    return t.BertModel(t.BertConfig(**(SIZES | sizes))).eval()


def tokenizer_of(longest=10**30, **options):
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = longest
    for name, value in options.items():
        setattr(tokenizer, name, value)
    return tokenizer


def from_tokenizer(side="right"):
    tokenizer = tokenizer_of(MOST, truncation_side=side)
    return {"model": bert(max_position_embeddings=64), "preprocess": tokenizer}


def from_positions():
    return {"model": bert(), "preprocess": tokenizer_of()}


def from_st(tmp_path):
    folder = tmp_path / "st"
    bert(max_position_embeddings=64).save_pretrained(folder)
    tokenizer_of(MOST).save_pretrained(folder)
    first = Transformer(str(folder))
    made = SentenceTransformer(modules=[first, Pooling(8)], device="cpu")
    made.max_seq_length = MOST
    return {"model": made}


def whisper():
    extractor = t.WhisperFeatureExtractor(chunk_length=1)
    return {"model": Waves(), "preprocess": extractor}


def ragged():
    return {"model": Steps(), "max_length": MOST}


def sounds(lengths):
    rng = np.random.default_rng(0)
    return [rng.normal(size=length).astype("float32") for length in lengths]


def arrays(lengths):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, 3)).astype("float32") for length in lengths]


KINDS = {
    "tokenizer": (from_tokenizer, texts_of, MOST, "tokens"),
    "left": (lambda: from_tokenizer("left"), texts_of, MOST, "tokens"),
    "positions": (from_positions, texts_of, MOST, "tokens"),
    "st": (from_st, texts_of, MOST, "tokens"),
    "sound": (whisper, sounds, 16_000, "values"),
    "ragged": (ragged, arrays, MOST, "values"),
}


@pytest.fixture(params=KINDS)
def long(request, tmp_path):
    """Give settings, rows around the maximum, and what the cut ones are by hand."""
    make, rows_of, most, unit = KINDS[request.param]
    settings = make(tmp_path) if request.param == "st" else make()
    lengths = [most - 1, most, most + 1, 2 * most, 3, 5 * most]
    X = rows_of(lengths)
    if unit == "tokens":
        words = [text.split() for text in X]
        from_left = request.param == "left"
        kept = [row[-(most - 2) :] if from_left else row[: most - 2] for row in words]
        short = [" ".join(row) for row in kept]
    else:
        short = [row[:most] for row in X]
    return settings, X, short, f"{5 * most} {unit}", f"{most} {unit}"


def nested(pipe, X, y):
    search = GridSearchCV(pipe, {"logisticregression__C": [1, 2]}, cv=2)
    return cross_val_score(search, X, y, cv=2)


def heard_of(call, *given):
    """Return what a call gives, and the truncations that it warns of."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        result = call(*given)
    told = [one for one in heard if issubclass(one.category, TruncationWarning)]
    return result, told


@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_rows_around_the_maximum_are_cut_by_the_library_and_named(
    long, cached, tmp_path
):
    settings, X, short, longest, most = long
    if cached:
        settings["cache"] = tmp_path / "rows.db"
    expected = TorchFeatureExtractor(**settings).transform(short)
    for again in (False, True)[: 1 + cached]:
        extractor = TorchFeatureExtractor(**settings)
        Z, told = heard_of(extractor.transform, X)
        assert len(told) == 1, again
        message = str(told[0].message)
        assert message.startswith(f"rows 2, 3, 5 of `X` were cut at {most}, ")
        assert f"row 5 lost 80 % of its {longest}" in message
        assert told[0].filename == __file__
        np.testing.assert_allclose(Z, expected, atol=1e-5)
        silent = clone(extractor).set_params(too_long="cut")
        Z_cut, told = heard_of(silent.transform, X)
        assert not told
        np.testing.assert_array_equal(Z_cut, Z)
        refusing = clone(extractor).set_params(too_long="raise")
        with pytest.raises(ValueError, match=rf"row 2 of `X` has .* at most {most}"):
            refusing.transform(X)
        refusing.set_params(on_error="nan")
        with pytest.warns(BadRowWarning, match=r"rows 2, 3, 5 of `X`.*at most"):
            Z_nan = refusing.transform(X)
        assert np.isnan(Z_nan[CUT]).all()
        left = [0, 1, 4]
        np.testing.assert_allclose(Z_nan[left], Z[left], atol=1e-5)


def test_rows_that_fit_are_the_same_under_every_policy(long):
    settings, _, short, *_ = long
    fitting = [short[row] for row in (0, 1, 4)]
    results = [
        TorchFeatureExtractor(**settings, too_long=policy).transform(fitting)
        for policy in ("warn", "cut", "raise")
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_max_length_cuts_earlier_and_never_above_the_maximum(long):
    settings, X, *_, most = long
    n = int(most.split()[0])
    extractor = TorchFeatureExtractor(**(settings | {"max_length": n - 2}))
    if isinstance(X[0], str):
        short = [" ".join(text.split()[: n - 4]) for text in X]
        if getattr(settings.get("preprocess"), "truncation_side", "") == "left":
            short = [" ".join(text.split()[-(n - 4) :]) for text in X]
    else:
        short = [row[: n - 2] for row in X]
    words = (
        rf"rows 0 to 3, 5|rows 0, 1, 2, 3, 5 of `X` were cut at {n - 2} .*max_length"
    )
    with pytest.warns(TruncationWarning, match=words):
        Z = extractor.transform(X)
    np.testing.assert_allclose(Z, extractor.transform(short), atol=1e-5)
    if settings.get("max_length") is None:
        extractor.set_params(max_length=n + 1)
        with pytest.raises(ValueError, match=rf"`max_length`.*{most}.*got {n + 1}"):
            extractor.transform(X)


def test_a_file_notes_what_was_cut_and_warns_again(long, tmp_path):
    settings, X, *_ = long
    extractor = TorchFeatureExtractor(**settings)
    _, (first,) = heard_of(extractor.transform_to_file, X, tmp_path / "Z.npy")
    _, (again,) = heard_of(extractor.transform_to_file, X, tmp_path / "Z.npy")
    assert str(first.message) == str(again.message)


def test_a_run_that_goes_on_names_the_rows_that_were_cut_before(tmp_path, monkeypatch):
    extractor = TorchFeatureExtractor(**from_positions(), batch_size=1)
    X, path = texts_of(LENGTHS), tmp_path / "Z.npy"
    write, calls = FileSink.write, []

    def failing(self, rows, pieces):
        calls.append(rows)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return write(self, rows, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(FileSink, "write", failing)
        with pytest.raises(KeyboardInterrupt):
            extractor.transform_to_file(X, path)
    Z, (told,) = heard_of(extractor.transform_to_file, X, path)
    assert "rows 2, 3, 5 of `X`" in str(told.message)
    assert not np.isnan(Z).any()


class Counted(t.PreTrainedTokenizerFast):
    """Counts the texts that it is given."""

    texts: list[str] = []  # noqa: RUF012 - counted over copies

    def __call__(self, texts, **options):
        Counted.texts += [texts] if isinstance(texts, str) else texts
        return super().__call__(texts, **options)


def test_texts_are_tokenized_once_and_never_for_a_warm_cache(tmp_path):
    inner = tokenizer_of(MOST)
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    counted = Counted(
        tokenizer_object=inner.backend_tokenizer, model_max_length=MOST, **special
    )
    extractor = TorchFeatureExtractor(
        bert(), preprocess=counted, cache=tmp_path / "rows.db"
    )
    X = texts_of(LENGTHS)
    Counted.texts.clear()
    _, told = heard_of(extractor.transform, X)
    assert len(told) == 1
    assert all(Counted.texts.count(text) == 1 for text in X)
    Counted.texts.clear()
    _, told = heard_of(extractor.transform, [*X, X[2]])
    assert "rows 2, 3, 5, 6" in str(told[0].message)
    with pytest.raises(ValueError, match="row 2 of `X`"):
        clone(extractor).set_params(too_long="raise").transform(X)
    assert not Counted.texts


def test_rows_of_tokens_are_noted_in_a_cache_too(tmp_path):
    extractor = TorchFeatureExtractor(
        **from_positions(), pooling=None, cache=tmp_path / "rows.db"
    )
    X = texts_of(LENGTHS)
    Z, (first,) = heard_of(extractor.transform, X)
    assert [len(row) for row in Z] == [min(length, MOST) for length in LENGTHS]
    _, (again,) = heard_of(extractor.transform, X)
    assert str(first.message) == str(again.message)


def test_fit_warns_of_the_row_that_it_runs_and_of_no_other():
    extractor = TorchFeatureExtractor(**from_positions())
    X = texts_of([5, 60, 60])
    assert heard_of(extractor.fit, X)[1] == []
    _, (told,) = heard_of(extractor.fit, X[1:])
    assert str(told.message).startswith("row 0 of `X` was cut")
    _, (told,) = heard_of(extractor.fit_transform, X)
    assert "rows 1 to 2" in str(told.message)
    extractor.set_params(too_long="raise", on_error="nan")
    assert extractor.fit(X[::-1])  # of the last, the only one that fits


def test_a_search_warns_once_a_setting_and_its_predictions_always():
    pipe = make_pipeline(
        TorchFeatureExtractor(**from_positions()), LogisticRegression()
    )
    X, y = texts_of(LENGTHS * 2), [0, 1] * 6
    grid = {
        "torchfeatureextractor__max_length": [5, 8],
        "logisticregression__C": [1, 2],
    }
    search = GridSearchCV(pipe, grid, cv=3)
    for _ in range(2):
        assert len(heard_of(search.fit, X, y)[1]) == 2
    for _ in range(2):
        _, (told,) = heard_of(search.predict, X)
        assert told.filename == __file__


@pytest.mark.parametrize("validate", [cross_val_score, cross_val_predict, nested])
def test_each_cross_validation_warns_once(validate):
    pipe = make_pipeline(
        TorchFeatureExtractor(**from_positions()), LogisticRegression()
    )
    X, y = texts_of(LENGTHS * 2), [0, 1] * 6
    for _ in range(2):
        _, (told,) = heard_of(validate, pipe, X, y)
        assert told.filename == __file__


def test_precompute_warns_once_for_all_settings(tmp_path):
    extractor = TorchFeatureExtractor(**from_positions(), cache=tmp_path / "rows.db")
    pipe = make_pipeline(extractor, LogisticRegression())
    X = texts_of(LENGTHS)
    grid = {
        "torchfeatureextractor__max_length": [5, 8],
        "torchfeatureextractor__too_long": ["raise", "cut", "warn"],
    }
    search = GridSearchCV(pipe, grid)
    done, (told,) = heard_of(precompute, search, X)
    assert (done.n_run, done.n_known) == (12, 0)
    assert str(told.message).startswith("In 2 settings rows were cut")
    done, (told,) = heard_of(precompute, search, X)
    assert (done.n_run, done.n_known) == (0, 12)


NO_LENGTHS = {
    "table": (np.ones((3, 4)), {}),
    "tensor": (torch.ones(3, 4), {}),
    "columns": ({"input": np.ones((3, 4))}, {}),
    "dataset": (Items([np.ones(4)] * 3), {}),
    "callable": (["a"], {"preprocess": lambda rows: torch.ones(len(rows), 2)}),
}


@pytest.mark.parametrize("kind", NO_LENGTHS)
def test_rows_without_lengths_refuse_a_max_length(kind):
    X, more = NO_LENGTHS[kind]
    extractor = TorchFeatureExtractor(nn.Identity(), max_length=2, **more)
    with pytest.raises(ValueError, match=r"`max_length` must be None for .*, got 2\."):
        extractor.transform(X)


@pytest.mark.parametrize(
    "make", [np.array, torch.tensor, list], ids=["np", "pt", "list"]
)
def test_lists_of_one_length_are_cut_as_those_of_several(make):
    X = [make([1.0, 2.0, 3.0]), make([4.0, 5.0, 6.0])]
    extractor = TorchFeatureExtractor(nn.Identity(), max_length=2)
    with pytest.warns(
        TruncationWarning, match="rows 0 to 1 of `X` were cut at 2 values"
    ):
        Z = extractor.transform(X)
    np.testing.assert_array_equal(Z, [[1, 2], [4, 5]])


def test_settings_survive_pickles_clones_and_folders(tmp_path):
    extractor = TorchFeatureExtractor("st:x", max_length=7, too_long="raise")
    extractor.save(tmp_path / "saved")
    for other in (
        clone(extractor),
        pickle.loads(pickle.dumps(extractor)),  # noqa: S301 - our own
        TorchFeatureExtractor.load(tmp_path / "saved"),
    ):
        assert (other.max_length, other.too_long) == (7, "raise")


@pytest.mark.parametrize("too_long", ["cut", "windows"])
@pytest.mark.parametrize("kind", ["tokenizer", "positions", "st"])
def test_a_tokenizer_cuts_and_pads_afterwards_as_before(kind, too_long, tmp_path):
    make = KINDS[kind][0]
    settings = make(tmp_path) if kind == "st" else make()
    tokenizer = settings.get("preprocess") or settings["model"].tokenizer
    fast = tokenizer.backend_tokenizer
    extractor = TorchFeatureExtractor(**settings, max_length=7, too_long=too_long)
    for set_state in (fast.no_padding, partial(fast.enable_padding, length=9)):
        set_state()
        before = fast.to_str()
        extractor.transform(texts_of(LENGTHS))
        assert fast.to_str() == before
        fast.enable_truncation(20, strategy="only_first", direction="left")


def test_an_object_of_sentence_transformers_stays_as_it_is(tmp_path):
    settings = from_st(tmp_path)
    model = settings["model"]
    X = texts_of(LENGTHS)
    extractor = TorchFeatureExtractor(**settings, max_length=6, too_long="cut")
    Z = extractor.transform(X)
    assert model.max_seq_length == MOST
    model.max_seq_length = 6
    np.testing.assert_allclose(Z, model.encode(X), atol=1e-5)
