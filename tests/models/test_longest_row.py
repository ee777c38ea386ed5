"""How long a row may be: found by what a model has, and held against its forward."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge.models._fixed_length import FixedLength
from sklearn_torch_bridge.models._longest_row import (
    Maximum,
    check_length,
    longest_sound,
    longest_text,
)

_SIZES = {
    **dict.fromkeys(("vocab_size", "hidden_size", "d_model", "n_embd", "dim"), 16),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "encoder_ffn_dim"), 16),
    **dict.fromkeys(("word_embed_proj_dim", "decoder_ffn_dim", "hidden_dim"), 16),
    **dict.fromkeys(("num_hidden_layers", "encoder_layers", "decoder_layers"), 1),
    **dict.fromkeys(("n_layer", "n_layers"), 1),
    **dict.fromkeys(("num_attention_heads", "encoder_attention_heads"), 2),
    **dict.fromkeys(("decoder_attention_heads", "n_head", "n_heads"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 20),
    "max_encoder_position_embeddings": 20,
    "pad_token_id": 1,
}


class _Unlimited:
    model_max_length = int(1e30)


@pytest.mark.parametrize(
    ("kind", "longest"),
    [
        *[(kind, 20) for kind in ("bert", "distilbert", "opt", "bart", "gpt2")],
        *[(kind, 18) for kind in ("roberta", "mpnet", "esm")],
        ("lxmert", 20),
        ("led", 20),
    ],
)
def test_a_text_of_the_maximum_runs_and_a_longer_one_fails(kind, longest):
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(kind)
    for name, size in _SIZES.items():
        if hasattr(config, name):
            setattr(config, name, size)
    if kind == "esm":
        config.position_embedding_type = "absolute"
    model = transformers.AutoModel.from_config(config).eval()
    assert longest_text(model, _Unlimited) == Maximum(longest, "tokens", "positions")
    if kind in ("lxmert", "led"):  # which take more than ids, or pad them
        return
    with torch.inference_mode():
        model(torch.full((1, longest), 5))
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            model(torch.full((1, longest + 1), 5))


def test_positions_of_another_tower_do_not_limit_a_text():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "intermediate_size": 8, "max_position_embeddings": 77}
    image = {**sizes, "intermediate_size": 8, "image_size": 4, "patch_size": 2}
    config = transformers.CLIPConfig(text_config=text, vision_config=image)
    assert longest_text(transformers.CLIPModel(config), _Unlimited).n == 77


def test_a_model_of_ones_own_has_the_maximum_of_its_tokenizer():
    module, tokenizer = nn.ModuleDict({"pos": nn.Embedding(17, 2)}), _Unlimited()
    assert longest_text(module, tokenizer) is None
    tokenizer.model_max_length = 128
    assert longest_text(module, tokenizer) == Maximum(128, "tokens", "tokenizer")
    fixed = FixedLength(64, truncates=True)
    assert longest_text(module, tokenizer, fixed) == Maximum(64, "tokens", "model")
    fixed = FixedLength(64, truncates=False)
    assert longest_text(module, tokenizer, fixed).n == 128


def test_max_length_is_from_one_token_to_the_maximum():
    most = Maximum(32, "tokens", "positions")
    assert check_length(None, most, unit="tokens") is most
    assert check_length(32, most, unit="tokens", least=3).whose == "max_length"
    with pytest.raises(ValueError, match=r"at most 32 tokens.*positions, got 33"):
        check_length(33, most, unit="tokens", least=3)
    with pytest.raises(ValueError, match=r"at least 3 tokens.*got 2"):
        check_length(2, most, unit="tokens", least=3)


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:At least one mel filter:UserWarning")
@pytest.mark.parametrize("kind", ["Whisper", "AST"])
def test_values_beyond_the_maximum_of_an_extractor_change_nothing(kind):
    transformers = pytest.importorskip("transformers")
    if kind == "AST":
        extractor = transformers.ASTFeatureExtractor(max_length=20)
    else:
        extractor = transformers.WhisperFeatureExtractor(chunk_length=1)
    longest = longest_sound(extractor).n
    sound = torch.randn(longest + 400, generator=torch.manual_seed(0)).numpy()
    parts = (sound, sound[:longest], sound[: longest - 200])
    made = (dict(extractor(part, sampling_rate=16_000)) for part in parts)
    whole, cut, shorter = (np.stack(next(iter(one.values()))) for one in made)
    assert np.array_equal(whole, cut)
    assert not np.array_equal(whole, shorter)


def test_extractors_without_a_length_take_all_of_a_sound():
    transformers = pytest.importorskip("transformers")
    assert longest_sound(transformers.Wav2Vec2FeatureExtractor()) is None
    clap = transformers.ClapFeatureExtractor()
    assert longest_sound(clap) == Maximum(480_000, "values", "extractor")
