"""Padding: found out to change a row or not, once for each model."""

import gc
import weakref

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._run._padding_trial import (
    _KNOWN,
    _are_apart,
    _some_rows,
    _weakly,
)
from tests.families import SMALL, make_tokenizer
from tests.tiny_models import Counting

SAME = {"rtol": 1e-5, "atol": 1e-5}
LETTERS = "abcdefghijklmnop"
TEXTS = [" ".join(LETTERS[:n]) for n in (2, 13, 5, 5, 9, 3, 16, 4, 16)]
IDS = [np.arange(1, n) for n in (4, 12, 6, 6, 3, 9, 15, 15)]


class Embedding(nn.Module):
    """Embeds ids; the classes below let padding through, each in its way."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(20, 8)
        self.rest = self.make()

    def make(self):
        return nn.Identity()

    def forward(self, input_ids, attention_mask=None):
        return self.mix(self.words(input_ids))

    def mix(self, hidden):
        return self.rest(hidden)


class Recurrent(Embedding):
    def make(self):
        return nn.GRU(8, 4, batch_first=True, bidirectional=True)

    def forward(self, input_ids, **kwargs):
        return self.rest(self.words(input_ids))[0]


class Convolution(Embedding):
    def make(self):
        return nn.Conv1d(8, 8, 5, padding=2)

    def mix(self, hidden):
        return self.rest(hidden.transpose(1, 2)).transpose(1, 2)


class Fourier(Embedding):
    def mix(self, hidden):
        return torch.fft.fft(hidden, dim=1).real


class FromTheEnd(Embedding):
    def mix(self, hidden):
        return hidden + torch.arange(hidden.shape[1], 0, -1)[:, None] / 10


class Centred(Embedding):
    def mix(self, hidden):
        return hidden - hidden.mean(1, keepdim=True)


class PooledByItself(Embedding):
    def mix(self, hidden):
        return hidden.amax(1)


class LastToken(Embedding):
    def mix(self, hidden):
        return hidden[:, -1]


LEAKS = [
    Recurrent,
    Convolution,
    Fourier,
    FromTheEnd,
    Centred,
    PooledByItself,
    LastToken,
]


def padded_ids(texts):
    """Pad, and tell nobody."""
    rows = [
        torch.tensor([LETTERS.index(one) + 1 for one in row.split()]) for row in texts
    ]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def each_alone(extractor, rows):
    return np.concatenate([extractor.transform([row]) for row in rows])


@pytest.mark.parametrize("batch_size", [4, "auto"])
@pytest.mark.parametrize("make", LEAKS)
def test_a_text_has_one_vector_where_padding_would_change_it(make, batch_size):
    extractor = TorchFeatureExtractor(
        make(), preprocess=make_tokenizer(), batch_size=batch_size
    )
    Z = extractor.transform(TEXTS)
    np.testing.assert_allclose(Z, each_alone(extractor, TEXTS), **SAME)


@pytest.mark.parametrize("make", LEAKS)
@pytest.mark.parametrize("as_row", [np.asarray, torch.tensor], ids=["array", "tensor"])
def test_ids_of_several_lengths_have_one_vector(make, as_row):
    rows = [as_row(row) for row in IDS]
    extractor = TorchFeatureExtractor(make(), batch_size=5)
    alone = [extractor.transform(row[None])[0] for row in rows]
    np.testing.assert_allclose(extractor.transform(rows), alone, **SAME)


@pytest.mark.parametrize("n_threads", [0, 2])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: text,
        lambda text: {"text": text},
        lambda text: (1, text),
        lambda text: np.array([text, "x"], object),
    ],
    ids=["text", "mapping", "tuple", "array"],
)
@pytest.mark.parametrize("make", LEAKS)
def test_a_preprocess_that_pads_cannot_change_a_row(make, wrap, n_threads):
    def preprocess(rows):
        texts = [row["text"] if isinstance(row, dict) else row for row in rows]
        firsts = [text if isinstance(text, str) else text[0] for text in texts]
        both = zip(texts, firsts, strict=True)
        return padded_ids([row[1] if one == 1 else one for row, one in both])

    rows = [wrap(text) for text in TEXTS]
    extractor = TorchFeatureExtractor(
        make(), preprocess=preprocess, batch_size=4, num_workers=n_threads
    )
    Z = extractor.transform(rows)
    np.testing.assert_allclose(Z, each_alone(extractor, rows), **SAME)


def test_a_pooling_that_takes_padding_for_tokens_cannot_change_a_row():
    extractor = TorchFeatureExtractor(
        Embedding(),
        preprocess=make_tokenizer(),
        pooling=lambda hidden, mask: hidden.mean(1),
    )
    Z = extractor.transform(TEXTS)
    np.testing.assert_allclose(Z, each_alone(extractor, TEXTS), **SAME)


def test_the_layer_that_is_read_is_the_one_that_is_tried():
    model = nn.ModuleDict({"plain": Embedding(), "leaky": Convolution()})
    model.forward = lambda input_ids, attention_mask: model["leaky"](
        input_ids, model["plain"](input_ids, attention_mask)[..., 0]
    )
    for layer in ("plain", "leaky", ["plain", "leaky"]):
        extractor = TorchFeatureExtractor(
            model, layer=layer, preprocess=make_tokenizer()
        )
        Z = extractor.transform(TEXTS)
        np.testing.assert_allclose(Z, each_alone(extractor, TEXTS), **SAME)


def test_frames_beside_a_mask_of_torchs_layers_have_one_vector(rng):
    class Leaky(nn.Module):
        def __init__(self):
            super().__init__()
            convolutions = [nn.Conv1d(4, 4, 3, padding=1) for _ in range(2)]
            self.rest = nn.Sequential(*convolutions)  # the first makes padding no 0

        def forward(self, src, src_key_padding_mask):
            return self.rest(src.transpose(1, 2)).transpose(1, 2)

    rows = [rng.normal(size=(n, 4)).astype(np.float32) for n in (2, 7, 5, 3, 5, 11)]
    extractor = TorchFeatureExtractor(Leaky(), batch_size=3)
    alone = [extractor.transform(row[None])[0] for row in rows]
    np.testing.assert_allclose(extractor.transform(rows), alone, **SAME)


def test_a_leak_that_begins_with_long_rows_is_found_when_they_come():
    class FromTen(Embedding):
        def mix(self, hidden):
            return hidden if hidden.shape[1] < 10 else hidden.flip(1)

    extractor = TorchFeatureExtractor(FromTen(), preprocess=make_tokenizer())
    for texts in ([TEXTS[0], TEXTS[2], TEXTS[5]], TEXTS):
        Z = extractor.transform(texts)
        np.testing.assert_allclose(Z, each_alone(extractor, texts), **SAME)


@pytest.mark.parametrize(
    "config",
    [
        transformers.ConvBertConfig(**SMALL, vocab_size=20, intermediate_size=32),
        transformers.YosoConfig(
            **SMALL, vocab_size=20, intermediate_size=32, use_expectation=True
        ),
        transformers.FNetConfig(
            hidden_size=16, num_hidden_layers=2, vocab_size=20, intermediate_size=32
        ),
        transformers.BertConfig(**SMALL, vocab_size=20, intermediate_size=32),
        transformers.MPNetConfig(**SMALL, vocab_size=20, intermediate_size=32),
    ],
    ids=lambda config: config.model_type,
)
def test_models_of_transformers_give_a_text_one_vector(config):
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).eval()
    tokenizer = make_tokenizer()
    extractor = TorchFeatureExtractor(
        model, preprocess=tokenizer, output="last_hidden_state", batch_size=4
    )
    Z = extractor.transform(TEXTS)
    np.testing.assert_allclose(Z, each_alone(extractor, TEXTS), **SAME)


# What a trial costs -------------------------------------------------------------------


def test_rows_share_batches_where_padding_changes_nothing():
    """Some forwards more, once: of the longest, two between and the shortest."""
    model = Counting(Embedding())
    model.forward = lambda input_ids, attention_mask: Counting.forward(model, input_ids)
    extractor = TorchFeatureExtractor(
        model, preprocess=make_tokenizer(), batch_size=len(TEXTS)
    )
    distinct = len(set(TEXTS))
    extractor.transform(TEXTS)
    assert model.tally.sizes == [1, 1, 1, 4, distinct]
    extractor.transform(TEXTS)
    assert model.tally.sizes[5:] == [distinct]


@pytest.mark.parametrize(
    ("rows", "batch_size"),
    [(TEXTS[3:4], 4), ([TEXTS[3], TEXTS[2][::-1]], 4), (TEXTS[:3], 1)],
    ids=["one row", "one length", "batches of one"],
)
def test_nothing_is_tried_where_nothing_is_padded(rows, batch_size):
    model = Counting(Embedding())
    model.forward = lambda input_ids, attention_mask: Counting.forward(model, input_ids)
    extractor = TorchFeatureExtractor(
        model, preprocess=make_tokenizer(), batch_size=batch_size
    )
    extractor.transform(rows)
    assert model.tally.rows == len(rows)


def test_a_cached_call_tries_nothing(cache):
    model = Counting(Convolution())
    model.forward = lambda input_ids, attention_mask: Counting.forward(model, input_ids)
    extractor = TorchFeatureExtractor(
        model, preprocess=make_tokenizer(), cache=cache, cache_key="own"
    )
    Z = extractor.transform(TEXTS)
    _KNOWN.clear()
    rows = model.tally.rows
    np.testing.assert_array_equal(extractor.transform(TEXTS), Z)
    assert model.tally.rows == rows


def test_a_preprocess_that_pads_nothing_is_called_a_few_times_more_and_runs_nothing():
    calls = []

    def preprocess(rows):
        calls.append(len(rows))
        return torch.zeros(len(rows), 3)

    model = Counting()
    rows = [object() for _ in range(20)]
    extractor = TorchFeatureExtractor(model, preprocess=preprocess, batch_size=20)
    extractor.transform(rows)
    assert calls == [1, 1, 1, 1, 4, 20]
    assert model.tally.sizes == [20]
    extractor.transform(rows)
    assert calls[6:] == [20]


def test_rows_that_fail_alone_leave_the_others_as_they_are():
    class Refusing(Convolution):
        def forward(self, input_ids, attention_mask):
            if input_ids.shape[1] < 5:
                msg = "too short"
                raise ValueError(msg)
            return super().forward(input_ids)

    extractor = TorchFeatureExtractor(
        Refusing(), preprocess=make_tokenizer(), on_error="nan", batch_size=4
    )
    with pytest.warns(UserWarning, match="row 0"):
        Z = extractor.transform(TEXTS)
    assert np.isnan(Z[0]).all()
    alone = each_alone(extractor, TEXTS[1:])
    np.testing.assert_allclose(Z[1:], alone, **SAME)


def test_a_row_that_cannot_be_prepared_does_not_part_the_others():
    tokenizer, counting = make_tokenizer(), Counting(Embedding())

    def preprocess(rows):
        if "" in rows:
            msg = "empty"
            raise ValueError(msg)
        made = tokenizer(rows, padding=True, return_tensors="pt")
        return {
            "input_ids": made["input_ids"],
            "attention_mask": made["attention_mask"],
        }

    extractor = TorchFeatureExtractor(
        counting,
        preprocess=lambda rows: preprocess([text for _, text in rows]),
        on_error="nan",
    )
    rows = [(number, text) for number, text in enumerate(["", *TEXTS])]
    with pytest.warns(UserWarning, match="row 0"):
        Z = extractor.transform(rows)
    assert max(counting.tally.sizes) == len(rows) // 2  # the half without that row
    np.testing.assert_allclose(Z[1:], each_alone(extractor, rows[1:]), **SAME)


def test_images_that_are_padded_to_one_size_have_one_vector(rng):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.rest = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, pixel_values, pixel_mask=None):
            return self.rest(pixel_values).relu().mean((2, 3))

    size = {"shortest_edge": 16, "longest_edge": 48}
    processor = transformers.DetrImageProcessorPil(size=size)
    shapes = [(32, 16), (16, 32), (16, 16), (24, 16), (16, 48), (16, 16)]
    images = [
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        for shape in shapes
    ]
    extractor = TorchFeatureExtractor(Whole(), preprocess=processor, batch_size=4)
    Z = extractor.transform(images)
    np.testing.assert_allclose(Z, each_alone(extractor, images), **SAME)


def test_a_trial_keeps_no_model_and_no_function_alive():
    class Own(Convolution):
        def pad(self, rows):
            return padded_ids(rows)

    model, preprocess = Own(), lambda rows: padded_ids(rows)  # noqa: PLW0108 - one of its own
    TorchFeatureExtractor(model, preprocess=preprocess).transform(TEXTS)
    TorchFeatureExtractor(model, preprocess=model.pad).transform(TEXTS)
    function, module = weakref.ref(preprocess), weakref.ref(model)
    del preprocess
    gc.collect()
    assert function() is None
    del model
    gc.collect()
    assert module() is None


def test_a_call_that_is_no_object_of_its_own_is_known_again():
    class Slots:
        __slots__ = ()

        def pad(self, rows):
            return rows

    made = Slots()
    assert _weakly(made) == _weakly(made)
    assert _weakly(made) != _weakly(Slots())
    assert _weakly(TEXTS.copy) is not None
    owner = Embedding()
    assert _weakly(owner.mix) == _weakly(owner.mix)
    assert _weakly(owner.mix) != _weakly(Embedding().mix)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ([1.0, 2.0], [1.0, 2.0], False),
        ([1.0, 2.0], [1.0, 2.0 + 1e-5], False),
        ([1.0, 2.0], [1.0, 2.0 + 1e-3], True),
        ([1.0, torch.nan], [1.0, torch.nan], False),
        ([1.0, torch.nan], [1.0, 2.0], True),
        ([1.0, torch.inf], [1.0, torch.inf], False),
        ([1.0, torch.inf], [1.1, torch.inf], True),
        ([torch.nan], [torch.inf], True),
        ([1.0], [1.0, 7.0], False),
        ([1.0, 7.0], [1.0], True),
        ([], [], False),
    ],
)
def test_vectors_are_compared_beyond_rounding(one, other, apart):
    assert _are_apart(torch.tensor(one), torch.tensor(other), 3e-5) is apart


def test_the_shortest_row_that_is_not_empty_is_tried():
    sizes = np.array([5, 0, 9, 1, 9])
    assert sizes[_some_rows(5, sizes)].tolist() == [9, 5, 1]
    assert len(_some_rows(5, np.array([2, 2, 9, 0, 9]))) == 2
    assert _some_rows(9, None).tolist() == [0, 2, 5, 8]


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [
        *(("float64", None), ("float32", None), ("bfloat16", None), ("float16", None)),
        ("float32", "bfloat16"),
    ],
)
def test_rounding_is_told_from_a_leak_in_every_dtype(dtype, precision):
    """ConvBERT's leak is 0.005 of a vector, a half type's rounding up to 0.006."""
    shape = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    given = {**shape, "vocab_size": 20, "intermediate_size": 64}
    for config, leaks in (
        (transformers.BertConfig(**given), False),
        (transformers.ConvBertConfig(**given), dtype != "bfloat16"),
    ):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config).to(getattr(torch, dtype))
        extractor = TorchFeatureExtractor(
            model, preprocess=make_tokenizer(), precision=precision
        )
        extractor.transform(TEXTS)
        assert any(_KNOWN[model].values()) is leaks
