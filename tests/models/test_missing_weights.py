"""Weights that no file held are never random: what depends on them is an error."""

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, models
from sklearn_torch_bridge.models._missing_weights import loading_report
from tests import families
from tests.families import CLOSE, TEXT_ROWS

pytestmark = pytest.mark.usefixtures("own_registry")


def saved(folder, cls, *, without=(), rename=None):
    """Save a model of texts whose file lacks some weights."""
    torch.manual_seed(0)
    config, _ = families.TEXTS["bert"]
    model = cls(config).eval()
    model.save_pretrained(folder)
    families.make_tokenizer().save_pretrained(folder)
    path = folder / "model.safetensors"
    weights = load_file(path)
    kept = {
        (rename or str)(name): weight.clone()
        for name, weight in weights.items()
        if not any(part in name for part in without)
    }
    save_file(kept, path, metadata={"format": "pt"})
    return model


@pytest.fixture(params=["hf", "st"])
def prefix(request):
    return request.param


@pytest.fixture
def store(tmp_path):
    return tmp_path / "e.db"


LACKING = {
    "a layer": ["encoder.layer.1."],
    "one weight": ["encoder.layer.0.attention.self.query.weight"],
    "a bias": ["encoder.layer.1.output.dense.bias"],
    "a norm": ["encoder.layer.1.output.LayerNorm"],
    "words": ["word_embeddings"],
    "all": [""],
}


@pytest.mark.parametrize("lacking", LACKING)
def test_a_value_that_needs_a_missing_weight_is_an_error(
    lacking, prefix, tmp_path, store
):
    saved(tmp_path, transformers.BertModel, without=LACKING[lacking])
    for options in ({}, {"cache": store}, {"on_error": "nan"}, {"pooling": "cls"}):
        extractor = TorchFeatureExtractor(f"{prefix}:{tmp_path}", **options)
        with pytest.raises(ValueError, match=r"its files lack '.*is NaN without"):
            extractor.transform(TEXT_ROWS)


@pytest.mark.parametrize("compile_", [False, True], ids=["plain", "compiled"])
def test_kernels_that_give_zeros_for_nan_do_not_hide_it(compile_, tmp_path):
    """As attention without a mask, of a text alone, does on a CPU."""
    saved(tmp_path, transformers.BertModel, without=LACKING["one weight"])
    extractor = TorchFeatureExtractor(f"hf:{tmp_path}", compile=compile_)
    with pytest.raises(ValueError, match="its files lack"):
        extractor.transform(TEXT_ROWS[:1])


def test_names_under_a_foreign_prefix_are_missing(prefix, tmp_path):
    """As those of a model that was wrapped as it was saved."""
    saved(tmp_path, transformers.BertModel, rename="wrapped.{}".format)
    extractor = TorchFeatureExtractor(f"{prefix}:{tmp_path}")
    words = pytest.warns(UserWarning, match="ignores weights in its files")
    with words, pytest.raises(ValueError, match="its files lack"):
        extractor.transform(TEXT_ROWS)


def test_a_missing_weight_that_nothing_needs_is_none(prefix, tmp_path):
    model = saved(tmp_path, transformers.BertModel, without=["pooler"])
    Z = TorchFeatureExtractor(f"{prefix}:{tmp_path}").transform(["a b c"])
    ids = families.make_tokenizer()(["a b c"], return_tensors="pt")
    with torch.inference_mode():
        expected = model(**ids).last_hidden_state.mean(1)
    np.testing.assert_allclose(Z, expected, **CLOSE)


def test_the_way_of_reading_decides(tmp_path):
    """One loaded model, read in several ways."""
    saved(tmp_path, transformers.BertModel, without=["pooler", "encoder.layer.1."])
    name = f"hf:{tmp_path}"
    first = TorchFeatureExtractor(name, layer="encoder.layer.0").transform(TEXT_ROWS)
    assert np.isfinite(first).all()
    ways = [
        {"layer": "encoder.layer.1"},
        {"layer": ["encoder.layer.0", "encoder.layer.1"]},
        {"output": "pooler_output"},
        {"pooling": None},
    ]
    for options in ways:
        with pytest.raises(ValueError, match=r"its files lack .*encoder\.layer\.1"):
            TorchFeatureExtractor(name, **options).transform(["a b"])


def test_the_head_that_a_file_has_beside_is_said_once(prefix, tmp_path, recwarn):
    saved(tmp_path, transformers.BertForMaskedLM)
    extractor = TorchFeatureExtractor(f"{prefix}:{tmp_path}")
    with pytest.warns(UserWarning, match=r"ignores .*'cls\.predictions.* in all"):
        extractor.transform(TEXT_ROWS)
    recwarn.clear()
    extractor.transform(TEXT_ROWS)
    with pytest.raises(ValueError, match=r"its files lack 'pooler"):
        TorchFeatureExtractor(f"hf:{tmp_path}", output="pooler_output").transform(["a"])


def test_a_weight_of_another_shape_is_named(prefix, tmp_path):
    saved(tmp_path, transformers.BertModel)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    name = "encoder.layer.0.attention.self.query.weight"
    save_file(weights | {name: torch.zeros(3, 16)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"is there, but could not be loaded.*size"):
        TorchFeatureExtractor(f"{prefix}:{tmp_path}").transform(["a"])


def test_a_tied_weight_is_not_missing(tmp_path):
    torch.manual_seed(0)
    config, _ = families.TEXTS["t5"]
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    families.make_tokenizer().save_pretrained(tmp_path)
    Z = TorchFeatureExtractor(f"hf:{tmp_path}").transform(TEXT_ROWS)
    assert np.isfinite(Z).all()


def test_loading_leaves_methods_of_others_as_they_were(minilm_path):
    before = (
        nn.Module.load_state_dict,
        vars(transformers.PreTrainedModel)["from_pretrained"],
    )
    TorchFeatureExtractor(f"hf:{minilm_path}").transform(["a"])
    TorchFeatureExtractor(f"st:{minilm_path}").transform(["a"])
    with pytest.raises(ValueError, match="must be a folder"):
        TorchFeatureExtractor("hf:/none/here").transform(["a"])
    after = vars(transformers.PreTrainedModel)["from_pretrained"]
    assert before == (nn.Module.load_state_dict, after)


def test_a_loader_may_go_on_asking_what_was_missing(minilm_path):
    with loading_report("x"):
        made, info = transformers.AutoModel.from_pretrained(
            minilm_path, output_loading_info=True
        )
        assert info["missing_keys"] == set()
        assert SentenceTransformer(minilm_path, device="cpu").truncate_dim is None
    assert isinstance(made, nn.Module)


class Two(nn.Module):
    """Stands for an image model that a library loads leniently."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(2, 2)
        self.unused = nn.Linear(2, 2)
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize("lacks", ["body", "unused"])
def test_what_a_lenient_loader_left_out_is_known(lacks):
    """As timm's, where another number of classes is asked for than was trained."""
    module = Two()
    state = {name: one for name, one in Two().state_dict().items() if lacks not in name}
    with loading_report("own:x") as report:
        module.load_state_dict(state, strict=False)
    missing = report.finish(module)
    assert missing == (f"{lacks}.weight", f"{lacks}.bias")
    models.register("own", lambda _: models.LoadedModel(module, missing=missing))
    extractor = TorchFeatureExtractor("own:x")
    if lacks == "unused":
        assert np.isfinite(extractor.transform([[1.0, 2]])).all()
        return
    with pytest.raises(ValueError, match=r"its files lack 'body\.weight', 'body"):
        extractor.transform([[1.0, 2]])


def test_what_a_later_file_brings_is_not_missing():
    module = Two()
    with loading_report("own:x") as report:
        module.load_state_dict({}, strict=False)
        module.body.load_state_dict(nn.Linear(2, 2).state_dict())
    assert report.finish(module) == ("unused.weight", "unused.bias")
    assert module.body.weight.isfinite().all()
