"""`prompt` and `truncate_dim`: equal to `encode`; in keys, in grids, saved."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    TorchFeatureExtractor,
    adapters,
    models,
    precompute,
)
from tests import families
from tests.tiny_models import Counting, cnn, mlp

SAME = {"rtol": 0, "atol": 1e-5}
TEXTS = ["a b c", "d", "e f g h i j k l m", "n o", "d", "p a k"]
PROMPTS = {"query": "o p ", "passage": "m : "}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Give folders of a model that sees both ways, and of one that does not."""
    configs = {
        "bert": transformers.BertConfig(**families.TEXT),
        "llama": transformers.LlamaConfig(**families.TEXT),
    }
    folders = {name: tmp_path_factory.mktemp(name) for name in configs}
    for name, config in configs.items():
        families.save(folders[name], config, families.make_tokenizer())
    return folders


@pytest.fixture(scope="module")
def make(folders):
    """Give a function that builds sentence transformers."""

    def build(base="bert", *, mode="mean", pools_prompt=True, side="right", last=None):
        pooling = Pooling(16, pooling_mode=mode, include_prompt=pools_prompt)
        parts = [Transformer(str(folders[base])), pooling, last or Normalize()]
        model = SentenceTransformer(modules=parts, device="cpu", prompts=PROMPTS)
        model.tokenizer.padding_side = side
        return model

    return build


@pytest.fixture(scope="module")
def bert(make):
    return make()


@pytest.mark.parametrize(
    ("base", "mode", "pools_prompt", "side"),
    [
        ("bert", "mean", True, "right"),
        ("bert", "mean", False, "right"),
        ("bert", "cls", False, "right"),
        ("bert", "max", False, "left"),
        ("llama", "mean", False, "left"),
        ("llama", "lasttoken", True, "left"),
    ],
)
def test_prompts_equal_those_of_encode(make, base, mode, pools_prompt, side):
    model = make(base, mode=mode, pools_prompt=pools_prompt, side=side)
    model.default_prompt_name = "passage"
    given = {
        None: {},
        "query": {"prompt_name": "query"},
        "document": {"prompt_name": "document"},
        "": {"prompt": ""},
        "b b : ": {"prompt": "b b : "},
    }
    seen = []
    for prompt, of_encode in given.items():
        extractor = TorchFeatureExtractor(model, prompt=prompt, batch_size=4)
        Z = extractor.fit_transform(TEXTS)
        # Where the model heeds padding, `encode` differs from row to row.
        expected = model.encode(TEXTS, batch_size=1, **of_encode)
        np.testing.assert_allclose(Z, expected, **SAME)
        seen.append(Z)
    assert np.abs(seen[0] - seen[1]).max() > 1e-4
    assert np.abs(seen[1] - seen[3]).max() > 1e-4
    np.testing.assert_array_equal(seen[2], seen[3])


@pytest.mark.parametrize("pools_prompt", [True, False])
def test_layers_leave_out_the_prompt_where_the_model_does(make, pools_prompt):
    model = make(last=nn.Identity(), pools_prompt=pools_prompt)
    expected = model.encode(TEXTS, prompt_name="query", batch_size=1)
    last = "0.model.encoder.layer.1"
    for pooling in ("auto", "mean"):
        options = {"layer": last, "pooling": pooling, "prompt": "query"}
        Z = TorchFeatureExtractor(model, **options).transform(TEXTS)
        np.testing.assert_allclose(Z, expected, **SAME)


def test_without_a_pooling_the_tokens_of_the_prompt_stay(make):
    model = make(pools_prompt=False)
    of_tokens = {"output": "token_embeddings", "pooling": None, "prompt": "query"}
    rows = TorchFeatureExtractor(model, **of_tokens).transform(TEXTS)
    expected = model.encode(
        TEXTS, prompt_name="query", output_value="token_embeddings", batch_size=1
    )
    for row, tokens in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row, tokens.numpy(), **SAME)


def test_any_tokenizer_puts_a_text_before_each_row(folders):
    name = f"hf:{folders['bert']}"
    prompted = TorchFeatureExtractor(name, prompt="o p ").fit_transform(TEXTS)
    by_hand = TorchFeatureExtractor(name).transform([f"o p {text}" for text in TEXTS])
    np.testing.assert_array_equal(prompted, by_hand)
    module = transformers.AutoModel.from_pretrained(folders["bert"])
    tokenizer = families.make_tokenizer()
    own = TorchFeatureExtractor(module, preprocess=tokenizer, prompt="o p ")
    np.testing.assert_array_equal(own.transform(TEXTS), by_hand)


def test_a_registered_model_may_bring_prompts(monkeypatch):
    monkeypatch.setattr(models._registry, "LIBRARIES", {})
    torch.manual_seed(0)
    embed = nn.EmbeddingBag(128, 4)

    def of_letters(texts):
        return {"input": torch.tensor([[*map(ord, text[:2])] for text in texts])}

    def load(name):
        named = {"prompts": {"first": name}, "default_prompt": "first"}
        return models.LoadedModel(embed, of_letters, **named)

    models.register("letters", load)
    by_hand = TorchFeatureExtractor(embed, preprocess=of_letters).transform(["xy"])
    Z = TorchFeatureExtractor("letters:x").transform(["yz"])
    np.testing.assert_array_equal(Z, by_hand)
    with pytest.raises(ValueError, match=r"got 'frist'\. Close names: 'first'"):
        TorchFeatureExtractor("letters:x", prompt="frist").transform(["y"])


def test_a_text_that_no_model_has_as_a_name_is_refused(bert):
    with pytest.raises(ValueError, match=r"Close names: 'query'"):
        TorchFeatureExtractor(bert, prompt="querry").fit(TEXTS)


@pytest.mark.parametrize(
    ("model", "preprocess", "X", "match"),
    [
        (mlp(), None, np.ones((2, 4)), "no texts, .* got 'a ' and an array"),
        (
            mlp(),
            lambda rows: torch.ones(len(rows), 4),
            ["a"],
            "`preprocess` of your own",
        ),
        (mlp(), lambda rows: torch.ones(len(rows), 4), [{}], "rows for `preprocess`"),
        (mlp(), None, {"input": np.ones((2, 4))}, "got 'a ' and columns"),
    ],
    ids=["array", "own texts", "own rows", "columns"],
)
def test_a_prompt_is_for_texts_that_a_tokenizer_takes(model, preprocess, X, match):
    extractor = TorchFeatureExtractor(model, preprocess=preprocess, prompt="a ")
    with pytest.raises(ValueError, match=match):
        extractor.fit(X)
    extractor.set_params(prompt="").fit(X)


def test_names_and_texts_of_one_prompt_share_cached_rows(bert, cache_path, tmp_path):
    bert.save_pretrained(str(tmp_path / "st"))
    counted = {}
    for model in (bert, f"st:{tmp_path / 'st'}"):
        for prompt in ("query", "o p ", None, "", "document", "passage"):
            one = TorchFeatureExtractor(model, prompt=prompt, cache=cache_path)
            counted[type(model), prompt] = precompute(one, TEXTS).n_run
    assert list(counted.values()) == [5, 0, 5, 0, 0, 5] * 2


def test_with_a_warm_cache_no_model_is_loaded(bert, cache_path, tmp_path, monkeypatch):
    bert.save_pretrained(str(tmp_path / "st"))
    options = {"prompt": "query", "truncate_dim": 4, "cache": cache_path}
    extractor = TorchFeatureExtractor(f"st:{tmp_path / 'st'}", **options)
    Z = extractor.fit_transform(TEXTS)
    empty = models._kept_models.KeptModels()
    monkeypatch.setattr(models._load_model, "_BY_STRING", empty)
    monkeypatch.setattr(models._load_model, "_load_string", None)  # not called
    np.testing.assert_array_equal(clone(extractor).fit_transform(TEXTS), Z)
    assert np.allclose(np.linalg.norm(Z, axis=1), 1)


class Loads:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self):
        return SentenceTransformer(self.folder, device="cpu")


def test_what_is_told_of_a_callables_model_travels(
    bert, cache_path, tmp_path, monkeypatch
):
    bert.save_pretrained(str(tmp_path / "st"))
    build = Loads(str(tmp_path / "st"))
    options = {"prompt": "query", "truncate_dim": 4, "cache": cache_path}
    extractor = TorchFeatureExtractor(build, **options)
    Z = extractor.transform(TEXTS)
    data = pickle.dumps(pickle.loads(pickle.dumps(extractor)))  # noqa: S301 - made here
    monkeypatch.setattr(models._load_model, "_call", None)  # no callable is called
    again = pickle.loads(data)  # noqa: S301 - made here
    np.testing.assert_array_equal(again.transform(TEXTS), Z)


def test_prompts_that_files_do_not_have_are_an_error(
    bert, cache_path, tmp_path, monkeypatch
):
    bert.save_pretrained(str(tmp_path / "st"))
    library = models._registry.LIBRARIES["st"]
    other = replace(library, told=lambda _: models.Told({"query": "else: "}))
    monkeypatch.setitem(models._registry.LIBRARIES, "st", other)
    model = f"st:{tmp_path / 'st'}"
    extractor = TorchFeatureExtractor(model, prompt="query", cache=cache_path)
    with pytest.raises(RuntimeError, match=r"'else: ', but once loaded it is 'o p '"):
        extractor.transform(TEXTS)


def test_missing_texts_get_no_prompt(bert):
    extractor = TorchFeatureExtractor(bert, prompt="query", on_error="nan")
    with pytest.warns(BadRowWarning, match="row 1"):
        Z = extractor.transform(["a", None, "b"])
    expected = bert.encode(["a", "b"], prompt_name="query")
    np.testing.assert_allclose(Z[[0, 2]], expected, **SAME)


@pytest.mark.parametrize("last", [Normalize, nn.Identity], ids=["unit", "plain"])
@pytest.mark.parametrize("own", [None, 8])
def test_widths_equal_those_of_encode(make, last, own):
    model = make(last=last())
    model.truncate_dim = own
    is_unit = last is Normalize
    for width in (1, 6, 8):
        extractor = TorchFeatureExtractor(model, truncate_dim=width)
        Z = extractor.fit_transform(TEXTS)
        expected = model.encode(
            TEXTS, truncate_dim=width, normalize_embeddings=is_unit, batch_size=1
        )
        np.testing.assert_allclose(Z, expected, **SAME)
        assert len(extractor.get_feature_names_out()) == width
    widest = own or 16
    wide = TorchFeatureExtractor(model, truncate_dim=widest + 1, on_error="nan")
    with pytest.raises(ValueError, match=rf"width of `Z`, {widest}, got {widest + 1}"):
        wide.transform(TEXTS)


def test_a_model_whose_last_part_is_no_normalisation_is_not_normalised(make):
    model = make(last=Normalize())
    model.append(Dense(16, 12, activation_function=nn.Identity()))
    Z = TorchFeatureExtractor(model, truncate_dim=5).transform(TEXTS)
    expected = model.encode(TEXTS, truncate_dim=5, batch_size=1)
    np.testing.assert_allclose(Z, expected, **SAME)


def test_layers_keep_their_first_columns_each_and_their_length():
    model = mlp()
    X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    whole = {
        layer: TorchFeatureExtractor(model, layer=layer).transform(X)
        for layer in ("first", "second")
    }
    both = TorchFeatureExtractor(model, layer=["first", "second"], truncate_dim=2)
    Z = both.fit_transform(X)
    np.testing.assert_array_equal(Z, np.hstack([one[:, :2] for one in whole.values()]))
    names = ["first_0", "first_1", "second_0", "second_1"]
    assert both.get_feature_names_out().tolist() == names
    assert both.transform(X[:0]).shape == (0, 4)
    with pytest.raises(ValueError, match=r"3 of layer 'second', got 4"):
        both.set_params(truncate_dim=4).fit(X)


def test_a_width_that_fit_has_learnt_is_old_after_another(cache_path):
    extractor = TorchFeatureExtractor(mlp(), truncate_dim=2, cache=cache_path)
    extractor.set_output(transform="pandas").fit(np.eye(4))
    again = pickle.loads(pickle.dumps(extractor))  # noqa: S301 - made here
    for one in (extractor, again, clone(extractor)):
        one.set_params(truncate_dim=1)
        assert one.transform(np.zeros((0, 4))).shape == (0, 1)
        assert one.fit_transform(np.eye(4)).shape == (4, 1)


def test_only_bad_rows_have_the_narrow_width():
    extractor = TorchFeatureExtractor(mlp(), truncate_dim=2, on_error="nan")
    extractor.fit(np.eye(4))
    with pytest.warns(BadRowWarning):
        assert extractor.transform(np.full((3, 4), np.nan)).shape == (3, 2)


def test_tokens_keep_their_first_columns(bert):
    of_tokens = {"output": "token_embeddings", "pooling": None}
    whole = TorchFeatureExtractor(bert, **of_tokens).transform(TEXTS)
    some = TorchFeatureExtractor(bert, **of_tokens, truncate_dim=3).transform(TEXTS)
    for row, narrow in zip(whole, some, strict=True):
        np.testing.assert_array_equal(narrow, row[:, :3])


def test_tokens_of_length_1_have_it_again(make, cache_path):
    model = make(last=Normalize("token_embeddings"))
    of_tokens = {"output": "token_embeddings", "pooling": None, "cache": cache_path}
    extractor = TorchFeatureExtractor(model, **of_tokens, truncate_dim=3)
    for rows in (extractor.fit_transform(TEXTS), extractor.transform(TEXTS)):
        assert all(np.allclose(np.linalg.norm(row, axis=1), 1) for row in rows)
    Z = TorchFeatureExtractor(model, truncate_dim=3).transform(TEXTS)
    np.testing.assert_allclose(Z, model.encode(TEXTS, truncate_dim=3), **SAME)


def test_maps_without_a_pooling_have_no_first_columns():
    X = np.zeros((2, 3, 8, 8), np.float32)
    extractor = TorchFeatureExtractor(cnn(), pooling=None, truncate_dim=2)
    with pytest.raises(
        ValueError, match="`truncate_dim` must be None for rows of more"
    ):
        extractor.fit(X)
    assert extractor.set_params(pooling="mean").fit_transform(X).shape == (2, 2)


def test_every_width_of_a_grid_comes_from_one_pass(cache_path):
    model = Counting(mlp())
    X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    extractor = TorchFeatureExtractor(model, cache=cache_path)
    pipe = make_pipeline(extractor, LogisticRegression())
    grid = {"torchfeatureextractor__truncate_dim": [1, 2, 3]}
    search = GridSearchCV(pipe, grid, cv=2)
    done = precompute(search, X)
    assert (done.n_run, model.tally.rows) == (12, 12)
    search.fit(X, [0, 1] * 6)
    assert model.tally.rows == 12
    whole = TorchFeatureExtractor(model).transform(X)
    for width in (1, 2, 3):
        Z = clone(extractor).set_params(truncate_dim=width).fit_transform(X)
        np.testing.assert_array_equal(Z, whole[:, :width])


def test_a_file_has_the_narrow_width_and_is_of_it_alone(tmp_path, cache_path):
    model, X = mlp(), np.eye(4)
    extractor = TorchFeatureExtractor(model, truncate_dim=2, cache=cache_path)
    path = tmp_path / "Z.npy"
    Z = extractor.transform_to_file(X, path)
    np.testing.assert_array_equal(Z, extractor.transform(X))
    np.testing.assert_array_equal(extractor.transform_to_file(X, path), Z)
    with pytest.raises(FileExistsError, match="other settings"):
        extractor.set_params(truncate_dim=1).transform_to_file(X, path)


def test_both_are_saved_and_shown(tmp_path, bert):
    bert.save_pretrained(str(tmp_path / "st"))
    options = {"prompt": "query", "truncate_dim": 4}
    extractor = TorchFeatureExtractor(f"st:{tmp_path / 'st'}", **options).fit(TEXTS)
    extractor.save(tmp_path / "saved")
    loaded = TorchFeatureExtractor.load(tmp_path / "saved")
    assert loaded.get_params()["prompt"] == "query"
    np.testing.assert_array_equal(loaded.transform(TEXTS), extractor.transform(TEXTS))
    assert loaded.transform([]).shape == (0, 4)
    assert "truncate_dim" in loaded._repr_html_()


def test_a_folder_of_before_these_parameters_still_loads(tmp_path):
    extractor = TorchFeatureExtractor(mlp(), device="cpu").fit(np.eye(4))
    before = extractor.get_params()
    del before["prompt"], before["truncate_dim"]
    extractor.get_params = lambda deep: before
    extractor.save(tmp_path / "saved")
    loaded = TorchFeatureExtractor.load(tmp_path / "saved", mlp)
    assert loaded.prompt is loaded.truncate_dim is None
    assert loaded.transform(np.eye(4)).shape == (4, 3)


def test_dask_knows_the_narrow_width():
    da = pytest.importorskip("dask.array")
    extractor = TorchFeatureExtractor(mlp(), truncate_dim=2)
    X = np.eye(4, dtype=np.float32)
    Z = adapters.to_dask(extractor, da.from_array(X, chunks=2))
    assert Z.shape == (4, 2)
    np.testing.assert_allclose(Z.compute(scheduler="sync"), extractor.transform(X))
