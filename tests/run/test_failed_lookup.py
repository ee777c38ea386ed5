"""Ids that a model lacks, and texts too long for it, are named with their rows."""

import numpy as np
import pytest
import torch
import transformers as t
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import (
    WhitespaceTokenizer,
)
from torch import nn

from sklearn_torch_bridge import (
    BadRowWarning,
    ForwardError,
    TorchFeatureExtractor,
    TruncationWarning,
)
from sklearn_torch_bridge._run._failed_lookup import explain
from sklearn_torch_bridge._types import Inputs
from tests.families import TEXT, make_tokenizer
from tests.tiny_models import Letters

IDS = np.array([[1, 2, 3], [4, 5, 6], [7, 3, 2], [1, 2, 4], [0, 1, 1]])


class Nested(nn.Module):
    """Looks words up in a part of a part, beside their kinds and places."""

    def __init__(self, size=7):
        super().__init__()
        self.part = nn.Sequential(nn.ModuleDict({"words": nn.Embedding(size, 4)}))
        self.kinds = nn.Embedding(2, 4)
        self.places = nn.Embedding(20, 4)

    def forward(self, input_ids, attention_mask=None, kinds=None, position_ids=None):
        hidden = self.part[0]["words"](input_ids)
        if kinds is not None:
            hidden = hidden + self.kinds(kinds)
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1])
        return hidden + self.places(position_ids)


class Bags(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(7, 4)

    def forward(self, x):
        return self.bag(x)


class Flat(nn.Module):
    """Looks up the ids of all rows as one list, whose rows have to be told from it."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(7, 4)

    def forward(self, x):
        return self.words(x.reshape(-1)).reshape(*x.shape, -1)


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(7, 4))

    def forward(self, x):
        return self.table[x]


MODELS = [
    nn.Embedding(7, 4),
    nn.Sequential(nn.Embedding(7, 4)),
    Nested(),
    Bags(),
    Flat(),
]
MODELS.append(Table())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize(
    "make",
    [np.array, lambda X: X.astype(np.int32), torch.tensor, list],
    ids=["int64", "int32", "tensor", "list"],
)
def test_an_id_beyond_the_vocabulary_is_named_with_its_row(model, make):
    words = r"failed on row 2, .*Ids in `X` must be from 0 to 6, got 7: give ids"
    with pytest.raises(ForwardError, match=words):
        TorchFeatureExtractor(model).transform(make(IDS))


@pytest.mark.parametrize("model", MODELS[:4], ids=lambda model: type(model).__name__)
def test_a_negative_id_is_named(model):
    X = IDS % 7
    X[3, 1] = -1
    with pytest.raises(ForwardError, match=r"failed on row 3, .* to 6, got -1"):
        TorchFeatureExtractor(model).transform(X)


def test_an_id_among_rows_of_several_lengths_is_named():
    rows = [np.array([1, 2]), np.array([3]), np.array([1, 2, 9]), np.array([4, 5])]
    with pytest.raises(ForwardError, match=r"row 2, .* from 0 to 6, got 9"):
        TorchFeatureExtractor(Nested()).transform(rows)


@pytest.mark.parametrize(
    ("name", "size"), [("input_ids", 7), ("kinds", 2), ("position_ids", 20)]
)
def test_the_column_of_an_id_is_named(name, size):
    X = {key: np.zeros((4, 3), int) for key in ("input_ids", "kinds", "position_ids")}
    X[name][1, 2] = size
    words = f"row 1, .*Ids in '{name}' must be from 0 to {size - 1}, got {size}"
    with pytest.raises(ForwardError, match=words):
        TorchFeatureExtractor(Nested()).transform(X)


def test_a_tokenizer_with_more_tokens_than_the_model_is_told_from_it():
    words = r"row 1, in submodule 'part.0.words' .* 'input_ids' must be .* to 6, got 8"
    with pytest.raises(ForwardError, match=words):
        TorchFeatureExtractor(Nested(), preprocess=make_tokenizer()).transform(
            ["a b", "a e", "c"]
        )


def test_an_id_of_a_sentence_transformer_is_named():
    words = WordEmbeddings(
        WhitespaceTokenizer(["[PAD]", "a", "b", "c"], stop_words=[]),
        np.zeros((3, 4), np.float32),
    )
    model = SentenceTransformer(modules=[words, Pooling(4)], device="cpu")
    with pytest.raises(ForwardError, match=r"row 1, .*'input_ids' .* to 2, got 3"):
        TorchFeatureExtractor(model).transform(["a b", "a c", "b"])


def test_each_row_with_such_an_id_can_become_nan():
    with pytest.warns(BadRowWarning, match="row 2 "):
        Z = TorchFeatureExtractor(Nested(), on_error="nan").transform(IDS)
    assert np.isnan(Z).all(axis=1).tolist() == [False, False, True, False, False]


def test_an_id_that_the_model_computes_is_no_fault_of_one_row():
    class Hashing(Flat):
        def forward(self, x):
            return self.words(x * x)

    with pytest.raises(ForwardError, match=r"Ids that the model computes must be .* 6"):
        TorchFeatureExtractor(Hashing()).transform(IDS % 5)


@pytest.mark.parametrize(
    "said",
    [
        "index 7 is out of bounds for dimension 1 with size 7",
        "INDICES element is out of DATA bounds, id=7 axis_dim=7",
        "out of range: tried to access index 7 on a tensor of 7 elements.",
        "index out of range: 1 to 7 into a tensor with 7 places.",
    ],
    ids=["index", "select", "take", "compiled"],
)
def test_an_index_without_an_embedding_is_found_among_the_inputs(said):
    inputs = Inputs(kwargs={"ids": torch.tensor(IDS)})
    found = explain(IndexError(said), nn.Identity(), inputs)
    assert found.row == 2
    assert found.words.startswith("Ids in 'ids' must be from 0 to 6, got 7")
    within = Inputs(kwargs={"ids": torch.tensor(IDS) % 7})
    assert explain(IndexError(said), nn.Identity(), within) is None


def test_an_index_that_is_made_of_ids_is_not_taken_for_one():
    class Shifted(Table):
        def forward(self, x):
            return self.table[x - 1]

    for X in ([[7, 2], [1, 8]], [[1, 2], [3, 9]]):
        with pytest.raises(ForwardError, match=r"with size 7$"):
            TorchFeatureExtractor(Shifted()).transform(X)


# Texts that are too long -------------------------------------------------------------

POSITIONS = {**TEXT, "max_position_embeddings": 20}
LONG = "a b c d e f g h i j k l m n o p " * 5
CONFIGS = {
    "bert": t.BertConfig(**POSITIONS),
    "roberta": t.RobertaConfig(**{**POSITIONS, "max_position_embeddings": 21}),
    "distilbert": t.DistilBertConfig(
        vocab_size=20, dim=16, n_layers=1, n_heads=2, max_position_embeddings=20
    ),
    "gpt2": t.GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=20),
    "electra": t.ElectraConfig(**POSITIONS),
    "opt": t.OPTConfig(
        vocab_size=20,
        hidden_size=16,
        word_embed_proj_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        max_position_embeddings=20,
    ),
}


def unlimited():
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 10**30
    return tokenizer


@pytest.mark.parametrize("family", CONFIGS)
def test_a_text_beyond_the_positions_of_a_model_is_cut_with_both_numbers(family):
    model = t.AutoModel.from_config(CONFIGS[family])
    extractor = TorchFeatureExtractor(model, preprocess=unlimited())
    texts = ["a b", "c", LONG, "d e f", "p " * 18]
    words = r"row 2 of `X` was cut at 20 tokens, .*positions.* 76 % of its 82 tokens"
    with pytest.warns(TruncationWarning, match=words):
        Z = extractor.transform(texts)
    texts[2] = " ".join(LONG.split()[:18])
    np.testing.assert_allclose(extractor.transform(texts), Z, atol=1e-5)


@pytest.mark.parametrize("wrap", [nn.Identity, lambda: None], ids=["inside", "itself"])
def test_a_model_without_a_configuration_is_told_by_its_embedding(wrap):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Nested(200)

        def forward(self, input_ids, attention_mask):
            return self.inner(input_ids, attention_mask)

    model = Around() if wrap() else Nested(200)
    words = r"row 1, .* It has 24 tokens, and the model takes at most 20"
    letters = Letters()
    with pytest.raises(ForwardError, match=words):
        TorchFeatureExtractor(model, preprocess=letters).transform(["ab", "a" * 24])
    rows = [np.arange(4), np.arange(26)]
    with pytest.raises(ForwardError, match=r"row 1, .* It has 26 tokens"):
        TorchFeatureExtractor(model).transform(rows)


def test_positions_that_skip_padding_are_told_as_positions():
    """MPNet counts from beyond its id of padding, and not where that stands."""
    config = {**POSITIONS, "max_position_embeddings": 22, "pad_token_id": 1}
    model = t.AutoModel.from_config(t.MPNetConfig(**config))
    rows = [np.arange(5), np.arange(2, 84) % 20, np.arange(3)]
    words = r"row 1, .* It has 82 tokens, and the model takes at most 20: cut"
    with pytest.raises(ForwardError, match=words):
        TorchFeatureExtractor(model).transform(rows)


def test_another_failure_of_a_long_text_is_not_taken_for_its_length():
    class Broken(nn.Module):
        config = t.BertConfig(**POSITIONS)

        def forward(self, input_ids, attention_mask):
            msg = "out of coffee"
            raise RuntimeError(msg)

    with pytest.raises(ForwardError, match=r"coffee$"):
        TorchFeatureExtractor(Broken(), preprocess=unlimited()).transform([LONG])


class Chosen(nn.Module):
    """Looks ids up by what names neither id nor size in its errors."""

    def __init__(self, look_up):
        super().__init__()
        self.look_up = look_up
        self.register_buffer("table", torch.ones(5, 2))

    def forward(self, x):
        if self.look_up == "one_hot":
            return nn.functional.one_hot(x, 5).float()
        return self.table.index_select(0, x.reshape(-1)).reshape(*x.shape, 2)


@pytest.mark.parametrize(
    ("look_up", "value", "words"),
    [
        ("one_hot", 7, "below the number of classes of `one_hot`, and go from 1 to 7"),
        ("one_hot", -2, "from 0 on, and go from -2 to 1"),
        ("index_select", 7, "below the size of the table, and go from 1 to 7"),
    ],
)
def test_an_error_that_names_no_id_is_told_which_were_given(look_up, value, words):
    X = np.array([[0, 1], [1, value], [2, 2]])
    with pytest.raises(ForwardError, match=rf"row 1.*Ids in `X` must be {words} here"):
        TorchFeatureExtractor(Chosen(look_up)).transform(X)
