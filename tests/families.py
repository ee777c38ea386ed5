"""Small models of many architectures of transformers, with random weights.

Each is saved in a folder as one of the hub would be, with its tokenizer or processor.
"""

import numpy as np
import torch
import transformers as t
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
RATE = 16_000
TEXT_ROWS = ["a b c", "d", "e f g h i j k l m", "n o", "p a"]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnop"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
TEXT = {**SMALL, **IDS, "vocab_size": len(WORDS), "intermediate_size": 32}
PICTURE = {**SMALL, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
CONVOLUTIONS = {
    "conv_dim": (8, 8),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
BOTH = {  # of models with an encoder and a decoder
    **IDS,
    "vocab_size": len(WORDS),
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}

# Family: its configuration, and two layers.
TEXTS = {
    "bert": (t.BertConfig(**TEXT), ["embeddings", "encoder.layer.0"]),
    "roberta": (t.RobertaConfig(**TEXT), ["embeddings", "encoder.layer.0"]),
    "distilbert": (
        t.DistilBertConfig(
            vocab_size=len(WORDS), dim=16, n_layers=2, n_heads=2, hidden_dim=32, **IDS
        ),
        ["embeddings", "transformer.layer.0"],
    ),
    "electra": (t.ElectraConfig(**TEXT), ["embeddings", "encoder.layer.0"]),
    "gpt2": (
        t.GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, **IDS),
        ["h.0", "h.1"],
    ),
    "llama": (t.LlamaConfig(**TEXT), ["layers.0", "layers.1"]),
    "t5": (
        t.T5Config(
            vocab_size=len(WORDS),
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
        ),
        ["block.0.layer.1", "block.1.layer.1"],
    ),
    "bart": (t.BartConfig(**BOTH), ["layers.0", "layers.1"]),
}
IMAGES = {
    "vit": (t.ViTConfig(**PICTURE), ["embeddings", "layers.0"]),
    "clip vision": (t.CLIPVisionConfig(**PICTURE), ["embeddings", "encoder.layers.0"]),
    "dinov2": (t.Dinov2Config(**PICTURE), ["embeddings", "layernorm"]),
    "resnet": (
        t.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
        ),
        ["embedder", "encoder.stages.0"],
    ),
}
SOUND = {
    "whisper": (
        t.WhisperConfig(**BOTH, decoder_start_token_id=2),
        ["layers.0", "layers.1"],
    ),
    "wav2vec2": (
        t.Wav2Vec2Config(**SMALL, intermediate_size=32, **CONVOLUTIONS),
        ["feature_projection.projection", "encoder.layers.0"],
    ),
    "ast": (
        t.ASTConfig(
            **SMALL,
            intermediate_size=32,
            max_length=64,
            num_mel_bins=16,
            frequency_stride=8,
            time_stride=8,
            patch_size=8,
        ),
        ["embeddings", "layers.0"],
    ),
}


def make_tokenizer():
    ids = dict(zip(WORDS, range(99), strict=False))
    inner = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))  # noqa: S106 - no password
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = dict(zip(("pad", "unk", "cls", "sep"), WORDS, strict=False))
    tokens = {f"{name}_token": token for name, token in special.items()}
    return t.PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=32, **tokens
    )


def make_images(rng, n=3):
    sizes = [(40, 50), (32, 32), (60, 33)]
    return [
        Image.fromarray(rng.integers(0, 256, (*sizes[row % 3], 3), dtype=np.uint8))
        for row in range(n)
    ]


def sound_processor(name):
    if name == "whisper":
        return t.WhisperFeatureExtractor()
    if name == "ast":
        return t.ASTFeatureExtractor(max_length=64, num_mel_bins=16)
    return t.Wav2Vec2FeatureExtractor()


def save(folder, config, *processors):
    """Save a model with random weights, and what prepares its rows."""
    torch.manual_seed(0)
    model = t.AutoModel.from_config(config).eval()
    model.save_pretrained(folder)
    for processor in processors:
        processor.save_pretrained(folder)
    encoder = model.get_encoder() if config.is_encoder_decoder else model
    return encoder.eval()


def by_hand(model, rows, prepare, layer=None):
    """Run one row after the other, unpadded, and average what is not features."""
    return np.stack([_one_by_hand(model, prepare(row), layer) for row in rows])


def _one_by_hand(model, inputs, layer):
    recorded = []
    handle = model.get_submodule(layer or "").register_forward_hook(
        # A copy: a later layer may work in place.
        lambda _module, _args, value: recorded.append(_hidden(value)[0].clone())
    )
    with torch.inference_mode():
        model(inputs) if isinstance(inputs, torch.Tensor) else model(**inputs)
    handle.remove()
    value = recorded[0]
    axes = {1: None, 2: 0, 3: (1, 2)}[value.ndim]
    return (value if axes is None else value.mean(axes)).numpy()


def _hidden(output):
    if isinstance(output, tuple):
        return output[0]
    return getattr(output, "last_hidden_state", output)


def picture_processor():
    return t.ViTImageProcessorPil(size={"height": 32, "width": 32})


def folder_with(tmp_path, config, *processors):
    return save(tmp_path / "model", config, *processors), f"hf:{tmp_path}/model"


def why_not(*packages):
    """Return why a package cannot be imported; None if all can."""
    for package in packages:
        try:
            __import__(package)
        except (ImportError, RuntimeError) as error:
            return f"{package} does not import: {error}"
    return None
