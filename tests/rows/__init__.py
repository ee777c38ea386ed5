"""What the tests of the kinds of rows share."""

from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._rows._given_input import Given

__all__ = ["given_rows"]


def given_rows(X, *, preprocess=None, brings=False, on_error="raise"):
    """Return `X` as an extractor gets it; the model may bring a `preprocess`."""
    model = "torchscript:not there" if brings else nn.Identity()
    return Given(
        X, TorchFeatureExtractor(model, preprocess=preprocess, on_error=on_error)
    )
