"""A module with what belongs to it: its preprocessing, its pooling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._types import Pool, Selector
from sklearn_torch_bridge.models._prompts import Told

__all__ = ["LoadedModel"]


# Its parameters are the fields, which numpydoc cannot read off the source.
@dataclass(frozen=True)
class LoadedModel:  # numpydoc ignore=PR02
    """A module, with what an extractor uses where its parameters are left open.

    Parameters
    ----------
    module : torch.nn.Module
        Computes the features.
    preprocess : callable, tokenizer or None, default=None
        Used for ``preprocess=None``; if there is `media`, only for texts.
    media : callable or None, default=None
        Takes a list of images, paths or sound, as `preprocess` takes rows. With it
        and without `preprocess`, str among the rows are names of files and not texts.
        A cache then identifies a row by the content of its file.
    output : str, int or None, default=None
        Used for ``output=None`` if no `layer` is given.
    pooling, layer_pooling : str or callable, default="auto"
        Used for ``pooling="auto"`` if no `layer` is given, and for layers.
    lengths : callable or None, default=None
        Takes a list of texts and returns the number of tokens of each, to sort by.
    missing : tuple of str, default=()
        Names of weights that no file held, which the loader has set to NaN: a value
        that depends on one of them is an error.
    prompts : mapping of str to str, default={}
        Texts that may stand before each row, by the names that `prompt` has for them.
        A `preprocess` with a method ``with_prompt`` is replaced by what that returns
        for such a text; others are given the rows with the text before each.
    default_prompt : str or None, default=None
        The name of the prompt used for ``prompt=None``.
    normalizes : bool, str or int, default=False
        Whether `module` brings its vectors to length 1, or the field of its output that
        has such vectors for each token. Where `truncate_dim` makes them narrower, they
        are brought to length 1 again.

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
    missing: tuple[str, ...] = field(default_factory=tuple)
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    normalizes: bool | str | int = False

    @property
    def opens_files(self) -> bool:
        """Return whether str among the rows name files."""
        return self.media is not None and self.preprocess is None

    @property
    def told(self) -> Told:
        """Return what some libraries tell of a model by its files alone."""
        named = (self.prompts, self.default_prompt, self.output)
        return Told(*named, self.normalizes)
