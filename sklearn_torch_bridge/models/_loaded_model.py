"""A module and what it brings along."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._types import Pool, Selector

__all__ = ["LoadedModel"]


# Its parameters are the fields, which numpydoc cannot read off the source.
@dataclass(frozen=True)
class LoadedModel:  # numpydoc ignore=PR02
    """Hold a module, and what an extractor does with it where it is not told.

    Parameters
    ----------
    module : torch.nn.Module
        What computes the features.
    preprocess : callable, tokenizer or None, default=None
        Stands in for ``preprocess=None``; for texts alone where there is `media`.
    media : callable or None, default=None
        Takes a list of images, paths or sound, as `preprocess` takes rows. With it
        and no `preprocess`, str among the rows are names of files and not texts. A
        row then counts, for a cache, by what is in its file.
    output : str, int or None, default=None
        Stands in for ``output=None``, where no `layer` is asked for.
    pooling : str or callable, default="auto"
        Stands in for ``pooling="auto"``, where no `layer` is asked for.
    layer_pooling : str or callable, default="auto"
        The same for layers.
    lengths : callable or None, default=None
        Gives the number of tokens of each of a list of texts, to sort by.

    Examples
    --------
    >>> import torch
    >>> from sklearn_torch_bridge.models import LoadedModel
    >>> LoadedModel(torch.nn.Identity(), pooling="max").pooling
    'max'
    """

    module: nn.Module
    preprocess: Any = None
    media: Any = None
    output: Selector = None
    pooling: str | Pool = "auto"
    layer_pooling: str | Pool = "auto"
    lengths: Callable[[Sequence[str]], NDArray[np.int64]] | None = None

    @property
    def opens_files(self) -> bool:
        """Tell whether str among the rows name files."""
        return self.media is not None and self.preprocess is None
