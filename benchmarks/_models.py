"""Small models, and rows for them, the same each time."""

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertModel

__all__ = ["bert", "cnn", "images", "mlp", "rows", "tiny_cnn"]


def mlp(width: int = 128, hidden: int = 512) -> nn.Module:
    """Give two linear layers with a ReLU between them."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)
    ).eval()


def cnn() -> nn.Module:
    """Give three convolutions that end in 64 maps."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3), nn.ReLU()),
    ).eval()


def tiny_cnn() -> nn.Module:
    """Give two convolutions with strides that end in 32 maps."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
    ).eval()


def bert() -> nn.Module:
    """Give a BERT of 12 blocks, 384 wide, that knows 1,000 tokens."""
    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, intermediate_size=1536, vocab_size=1_000)
    return BertModel(config).eval()


def rows(n_samples: int, width: int = 128) -> np.ndarray:
    """Give rows of normal numbers."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((n_samples, width), dtype=np.float32)


def images(n_samples: int) -> np.ndarray:
    """Give images of 32 x 32 and three channels, of normal numbers."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((n_samples, 3, 32, 32), dtype=np.float32)
