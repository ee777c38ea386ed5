"""``"hf:"`` over many architectures, and on a real model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import cos_sim

from sklearn_torch_bridge import TorchFeatureExtractor, layer_table
from sklearn_torch_bridge.models._hugging_face import load_hf
from sklearn_torch_bridge.models._load_model import load_model
from tests import families
from tests.families import CLOSE, RATE, TEXT_ROWS, folder_with, picture_processor

pytestmark = pytest.mark.filterwarnings(
    # transformers asks the interpreter for its platform in a way that is deprecated.
    "ignore:.*is deprecated:FutureWarning"
)


@pytest.mark.parametrize("family", families.TEXTS)
def test_texts_of_a_family(family, tmp_path):
    config, layers = families.TEXTS[family]
    tokenizer = families.make_tokenizer()
    model, name = folder_with(tmp_path, config, tokenizer)

    def prepare(text):
        made = tokenizer(text, return_tensors="pt")
        return {key: made[key] for key in ("input_ids", "attention_mask")}

    for layer in (None, *layers):
        Z = TorchFeatureExtractor(name, layer=layer, batch_size=3).transform(TEXT_ROWS)
        expected = families.by_hand(model, TEXT_ROWS, prepare, layer)
        np.testing.assert_allclose(Z, expected, **CLOSE)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_last_real_token_of_a_causal_model(tmp_path, side):
    tokenizer = families.make_tokenizer()
    tokenizer.padding_side = side
    config, _ = families.TEXTS["llama"]
    model, name = folder_with(tmp_path, config, tokenizer)
    Z = TorchFeatureExtractor(name, pooling="last", batch_size=5).transform(TEXT_ROWS)
    with torch.inference_mode():
        expected = [
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1]
            for text in TEXT_ROWS
        ]
    np.testing.assert_allclose(Z, torch.stack(expected).numpy(), **CLOSE)


@pytest.mark.parametrize("family", families.IMAGES)
def test_images_of_a_family(family, tmp_path, rng):
    config, layers = families.IMAGES[family]
    model, name = folder_with(tmp_path, config, picture_processor())
    # Another class where torchvision is there, which resizes a little differently.
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "model")
    images = families.make_images(rng)

    def prepare(image):
        return processor(images=[image], return_tensors="pt")

    for layer in (None, *layers):
        Z = TorchFeatureExtractor(name, layer=layer, batch_size=2).transform(images)
        expected = families.by_hand(model, images, prepare, layer)
        np.testing.assert_allclose(Z, expected, **CLOSE)


@pytest.mark.parametrize("family", families.SOUND)
def test_sound_of_a_family(family, tmp_path, clips):
    """The clips differ in length, and none may hear the silence behind another."""
    config, layers = families.SOUND[family]
    processor = families.sound_processor(family)
    model, name = folder_with(tmp_path, config, processor)

    def prepare(clip):
        made = processor([clip], sampling_rate=RATE, return_tensors="pt")
        return {model.main_input_name: made[model.main_input_name]}

    for layer in (None, *layers):
        pooling = "auto" if family != "whisper" else _all_positions
        extractor = TorchFeatureExtractor(
            name, layer=layer, batch_size=4, pooling=pooling
        )
        expected = families.by_hand(model, clips, prepare, layer)
        np.testing.assert_allclose(extractor.transform(clips), expected, **CLOSE)


def _all_positions(hidden, mask):
    del mask
    return hidden.mean(1)


def test_a_model_of_texts_and_images_takes_either(clip_model, rng, tmp_path):
    model = transformers.CLIPModel.from_pretrained(
        clip_model.removeprefix("hf:")
    ).eval()
    processor = transformers.CLIPProcessor.from_pretrained(
        clip_model.removeprefix("hf:")
    )
    images = families.make_images(rng)
    extractor = TorchFeatureExtractor(clip_model, batch_size=2)
    with torch.inference_mode():
        of_images = model.get_image_features(
            **processor(images=images, return_tensors="pt")
        ).pooler_output
        of_texts = [
            model.get_text_features(
                **processor.tokenizer(text, return_tensors="pt")
            ).pooler_output[0]
            for text in TEXT_ROWS
        ]
    np.testing.assert_allclose(extractor.transform(images), of_images.numpy(), **CLOSE)
    np.testing.assert_allclose(
        extractor.transform(TEXT_ROWS), torch.stack(of_texts).numpy(), **CLOSE
    )
    images[0].save(tmp_path / "a.png")  # a Path names a file, a str is a text
    np.testing.assert_allclose(
        extractor.transform([tmp_path / "a.png"]), of_images[:1].numpy(), **CLOSE
    )


def test_a_model_of_texts_takes_no_images(rng, minilm_path):
    with pytest.raises(TypeError, match="`X` holds Image objects: give a `preprocess`"):
        TorchFeatureExtractor(f"hf:{minilm_path}").transform(families.make_images(rng))


def test_files_determine_what_a_model_takes(vit, image_files):
    """Of an older transformers, whose image processors were feature extractors."""
    path = Path(vit.removeprefix("hf:"), "preprocessor_config.json")
    config = json.loads(path.read_text())
    expected = TorchFeatureExtractor(vit).transform(image_files)
    del config["image_processor_type"]
    config["feature_extractor_type"] = "ViTFeatureExtractor"
    path.write_text(json.dumps(config))
    Z = TorchFeatureExtractor(vit).transform(list(map(str, image_files)))
    np.testing.assert_array_equal(Z, expected)


SMALL_T5 = {
    "vocab_size": len(families.WORDS),
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}


@pytest.mark.parametrize(
    "name",
    ["T5EncoderModel", "MT5EncoderModel", "UMT5EncoderModel", "LongT5EncoderModel"],
)
def test_an_encoder_that_was_saved_alone(name, tmp_path):
    cls = getattr(transformers, name)
    torch.manual_seed(0)
    model = cls(cls.config_class(**SMALL_T5)).eval()
    model.save_pretrained(tmp_path)
    tokenizer = families.make_tokenizer()
    tokenizer.save_pretrained(tmp_path)

    def prepare(text):
        made = tokenizer(text, return_tensors="pt")
        return {key: made[key] for key in ("input_ids", "attention_mask")}

    expected = families.by_hand(model, TEXT_ROWS, prepare)
    for prefix in ("hf", "st"):
        Z = TorchFeatureExtractor(f"{prefix}:{tmp_path}").transform(TEXT_ROWS)
        np.testing.assert_allclose(Z, expected, **CLOSE)


WITH_DECODER = {
    "longt5": transformers.LongT5Config(**SMALL_T5),
    "umt5": transformers.UMT5Config(**SMALL_T5),
    "switch": transformers.SwitchTransformersConfig(
        **SMALL_T5, num_experts=2, num_sparse_encoder_layers=1
    ),
    "mbart": transformers.MBartConfig(**families.BOTH),
    "marian": transformers.MarianConfig(**families.BOTH, decoder_start_token_id=0),
    "m2m": transformers.M2M100Config(**families.BOTH),
    "pegasus": transformers.PegasusConfig(**families.BOTH),
}


@pytest.mark.parametrize("family", WITH_DECODER)
@pytest.mark.parametrize("flag", [True, False], ids=["flag", "no flag"])
def test_the_encoder_is_taken_whatever_the_configuration_calls_it(
    family, flag, tmp_path
):
    tokenizer = families.make_tokenizer()
    model, name = folder_with(tmp_path, WITH_DECODER[family], tokenizer)
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"is_encoder_decoder": flag}))

    def prepare(text):
        made = tokenizer(text, return_tensors="pt")
        return {key: made[key] for key in ("input_ids", "attention_mask")}

    Z = TorchFeatureExtractor(name).transform(TEXT_ROWS)
    np.testing.assert_allclose(Z, families.by_hand(model, TEXT_ROWS, prepare), **CLOSE)


def test_an_adapter_takes_the_tokenizer_of_the_model_that_it_is_for(
    tmp_path, monkeypatch
):
    config, _ = families.TEXTS["bert"]
    _, base = folder_with(tmp_path, config, families.make_tokenizer())
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"base_model_name_or_path": base.removeprefix("hf:")}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    # peft would join the two; here the model is that without the adapter.
    monkeypatch.setattr(
        transformers.AutoModel,
        "from_pretrained",
        lambda *_, **__: transformers.BertModel.from_pretrained(tmp_path / "model"),
    )
    Z = TorchFeatureExtractor(f"hf:{adapter}").transform(TEXT_ROWS)
    expected = TorchFeatureExtractor(base).transform(TEXT_ROWS)
    np.testing.assert_array_equal(Z, expected)


def test_the_layers_of_a_string(vit, image_files):
    table = layer_table(vit, image_files)
    assert table["layers.0"].shape == (4, 17, 16)
    assert table.names == layer_table(vit).names


TOLERANCE = {"rtol": 0, "atol": 1e-5}


def normalise(Z):
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def test_a_model_string_equals_sentence_transformers(minilm_path, texts):
    Z = TorchFeatureExtractor(f"hf:{minilm_path}", batch_size=3).transform(texts)
    expected = SentenceTransformer(minilm_path, device="cpu").encode(texts)
    np.testing.assert_allclose(normalise(Z), expected, **TOLERANCE)


def test_a_model_with_its_tokenizer_equals_the_model_string(
    minilm, tokenizer, minilm_path, texts
):
    apart = TorchFeatureExtractor(minilm, preprocess=tokenizer)
    together = TorchFeatureExtractor(f"hf:{minilm_path}")
    np.testing.assert_array_equal(apart.transform(texts), together.transform(texts))
    assert minilm.training


@pytest.mark.parametrize("layer", ["encoder.layer.0", "encoder.layer.4", None], ids=str)
def test_a_layer_equals_the_hidden_state_of_the_model(minilm_path, texts, layer):
    """The independent route: transformers' own `output_hidden_states`."""
    loaded = load_model(f"hf:{minilm_path}")
    given = loaded.preprocess(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        output = loaded.module.eval()(**given, output_hidden_states=True)
    state = output.hidden_states[-1 if layer is None else int(layer[-1]) + 1]
    mask = given["attention_mask"].unsqueeze(-1)
    expected = (state * mask).sum(1) / mask.sum(1)
    Z = TorchFeatureExtractor(f"hf:{minilm_path}", layer=layer).transform(texts)
    np.testing.assert_allclose(Z, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_the_pooler_can_be_asked_for(minilm_path, texts):
    extractor = TorchFeatureExtractor(f"hf:{minilm_path}", output="pooler_output")
    assert extractor.transform(texts[:2]).shape == (2, 384)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_padding_does_not_change_a_row(minilm_path, texts, batch_size):
    Z = TorchFeatureExtractor(f"hf:{minilm_path}", batch_size=8).transform(texts)
    other = TorchFeatureExtractor(f"hf:{minilm_path}", batch_size=batch_size)
    largest = np.abs(Z).max(axis=1, keepdims=True)
    difference = np.abs(other.transform(texts) - Z) / largest
    assert difference.max() <= 1e-5


def test_loading_shows_nothing(minilm_path, capfd):
    load_hf(minilm_path)
    assert capfd.readouterr() == ("", "")


def test_the_model_knows_what_it_reads(minilm_path):
    near, also_near, far = TorchFeatureExtractor(f"hf:{minilm_path}").transform(
        ["a cat on a mat", "a kitten lies on a rug", "quarterly tax returns"]
    )
    assert cos_sim(near, also_near) > cos_sim(near, far) + 0.3


@pytest.mark.parametrize("has_tokenizer", [False, True])
def test_an_adapter_without_a_tokenizer_takes_that_of_its_base(
    tmp_path, monkeypatch, has_tokenizer
):
    """peft would put the adapter into the base; here the base is loaded alone."""
    tokenizer = families.make_tokenizer()
    _, name = folder_with(tmp_path, families.TEXTS["bert"][0], tokenizer)
    base, adapter = tmp_path / "model", tmp_path / "adapter"
    adapter.mkdir()
    written = json.dumps({"base_model_name_or_path": str(base)})
    (adapter / "adapter_config.json").write_text(written)
    if has_tokenizer:
        tokenizer.model_max_length = 4
        tokenizer.save_pretrained(adapter)
    load = transformers.AutoModel.from_pretrained
    monkeypatch.setattr(
        transformers.AutoModel,
        "from_pretrained",
        lambda _, **given: load(base, **given),
    )
    Z = TorchFeatureExtractor(f"hf:{adapter}", too_long="cut").transform(TEXT_ROWS)
    expected = TorchFeatureExtractor(name).transform(TEXT_ROWS)
    assert np.allclose(Z, expected, **CLOSE) != has_tokenizer


TOWER = {"vocab_size": 100, "hidden_size": 8, "intermediate_size": 8}
TOWER |= {"num_hidden_layers": 1, "num_attention_heads": 2}
TOWER |= {"max_position_embeddings": 16, "projection_dim": 8}


@pytest.mark.parametrize(
    "name",
    ["SiglipTextModel", "ClapTextModelWithProjection", "XCLIPTextModel"],
)
def test_a_tower_that_was_saved_alone(name, tmp_path):
    cls = getattr(transformers, name)
    model = cls(cls.config_class(**TOWER)).eval()
    tokenizer = families.make_tokenizer()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    module = load_model(f"hf:{tmp_path}").module
    assert type(module) is cls
    texts = TEXT_ROWS[:2]
    Z = TorchFeatureExtractor(f"hf:{tmp_path}").transform(texts)
    by_hand = TorchFeatureExtractor(model, preprocess=tokenizer).transform(texts)
    np.testing.assert_allclose(Z, by_hand, **CLOSE)
