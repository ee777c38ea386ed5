"""The same work done by other libraries, each as its own documentation shows it.

Loading a model and building a trainer is left out of what is timed, and nothing
reports progress.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from _loops import MINILM
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

__all__ = [
    "embetter",
    "lightning_predict",
    "pipeline",
    "sentence_transformer",
    "skorch_forward",
    "skorch_predict",
    "skrub",
]

Texts = Sequence[str]
Encode = Callable[[Texts], np.ndarray]
Predict = Callable[[np.ndarray], np.ndarray]


def sentence_transformer(device: str = "cpu", batch_size: int = 32) -> Encode:
    """Give `SentenceTransformer.encode`."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(MINILM, device=device)
    return lambda texts: model.encode(
        texts, batch_size=batch_size, show_progress_bar=False
    )


def skrub(sample: Texts) -> Encode:
    """Give `LLMEncoder.transform`, without the PCA that it does by default."""
    from skrub import LLMEncoder

    encoder = LLMEncoder(
        MINILM, n_components=None, device="cpu", cache_folder=tempfile.gettempdir()
    )
    encoder.fit_transform(pd.Series(sample, name="text"))

    def encode(texts: Texts) -> np.ndarray:
        return encoder.transform(pd.Series(texts, name="text")).to_numpy()

    return encode


def embetter() -> Encode:
    """Give `SentenceEncoder.transform`."""
    from embetter.text import SentenceEncoder

    return SentenceEncoder(MINILM, device="cpu").transform


def pipeline(model: nn.Module, tokenizer: Any) -> Encode:
    """Give the feature-extraction pipeline, its tokens averaged.

    It hands out the tokens that are padding with the others, and no mask: the averages
    are not those of the other libraries.
    """
    from transformers import pipeline as make

    run = make("feature-extraction", model=model, tokenizer=tokenizer, device="cpu")

    def encode(texts: Texts) -> np.ndarray:
        tokens = run(list(texts), batch_size=32, return_tensors=True)
        return torch.cat([one.mean(1) for one in tokens]).numpy()

    return encode


def _skorch(module: nn.Module, batch_size: int) -> Any:
    from skorch import NeuralNet

    net = NeuralNet(module, criterion=nn.MSELoss, batch_size=batch_size, verbose=0)
    return net.initialize()


def skorch_forward(module: nn.Module, batch_size: int) -> Predict:
    """Give `NeuralNet.forward`."""
    net = _skorch(module, batch_size)
    return lambda X: net.forward(X).numpy()


def skorch_predict(module: nn.Module, batch_size: int) -> Predict:
    """Give `NeuralNet.predict`."""
    return _skorch(module, batch_size).predict


def lightning_predict(module: nn.Module, batch_size: int) -> Predict:
    """Give `Trainer.predict`, its batches joined."""
    from lightning.pytorch import LightningModule, Trainer

    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class Wrapped(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def predict_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
            return self.inner(*batch)

    wrapped = Wrapped().eval()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )

    def predict(X: np.ndarray) -> np.ndarray:
        loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=batch_size)
        with warnings.catch_warnings():
            # More workers are slower on data in memory; torch has renamed what it uses.
            warnings.filterwarnings("ignore", message=".*does not have many workers")
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
            return torch.cat(trainer.predict(wrapped, loader)).numpy()

    return predict
