"""The table of model libraries: how a string ``"PREFIX:NAME"`` is loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sklearn_torch_bridge.models._hugging_face import hf_files, hf_opens_files, load_hf
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._prompts import Told
from sklearn_torch_bridge.models._sentence_transformers import (
    load_st,
    st_files,
    st_told,
)
from sklearn_torch_bridge.models._timm import load_timm, timm_files
from sklearn_torch_bridge.models._torch_files import (
    load_export,
    load_torchscript,
    torch_files,
)
from sklearn_torch_bridge.models._torchvision import load_torchvision

__all__ = ["LIBRARIES", "Library", "find_library", "loader_of", "register"]

Loader = Callable[[str], nn.Module | LoadedModel]
Files = Callable[[str], Sequence[Path] | None]


def _nothing(name: str) -> Told:
    """Return what is told of a model that brings no prompts."""
    del name
    return Told()


@dataclass(frozen=True)
class Library:
    """How the models of a prefix are loaded, and what is known without loading."""

    load: Loader
    package: str | None = None  # whose version may change results
    files: Files | None = None  # all files that a name stands for
    opens_files: bool | Callable[[str], bool] | None = None  # None: known once loaded
    name_format: str = "NAME_OR_PATH"  # for errors
    told: Callable[[str], Told | None] | None = _nothing  # None: known once loaded

    def list_files(self, name: str) -> Sequence[Path] | None:
        """List the files of a model; None if they are not known."""
        return None if self.files is None else self.files(name)

    def takes_paths(self, name: str) -> bool | None:
        """Return whether str among the rows are paths; None if it must be loaded."""
        known = self.opens_files
        return known(name) if callable(known) else known


LIBRARIES = {
    "hf": Library(load_hf, "transformers", hf_files, hf_opens_files),
    "st": Library(
        load_st, "sentence_transformers", st_files, opens_files=False, told=st_told
    ),
    "timm": Library(load_timm, "timm", timm_files, opens_files=True),
    "torchvision": Library(load_torchvision, opens_files=True, name_format="NAME"),
    "torchscript": Library(load_torchscript, "torch", torch_files, False, "PATH"),
    "export": Library(load_export, "torch", torch_files, False, "PATH"),
}


def find_library(model: str) -> tuple[Library, str]:
    """Split ``"PREFIX:NAME"`` into the library of the prefix and the name."""
    prefix, colon, name = model.partition(":")
    if not colon or prefix not in LIBRARIES or not name:
        formats = (f"'{key}:{one.name_format}'" for key, one in LIBRARIES.items())
        known = ", ".join(formats)
        msg = f"`model`, where it is a string, must be one of {known}, got {model!r}."
        if colon and prefix.isidentifier() and name:
            msg += f" {prefix!r} would have to be registered, in each process."
        raise ValueError(msg)
    return LIBRARIES[prefix], name


def loader_of(model: str) -> Library | None:
    """Return the library of a prefix, if it is registered."""
    return LIBRARIES.get(model.partition(":")[0])


def register(
    prefix: str,
    loader: Loader,
    *,
    files: Files | None = None,
    package: str | None = None,
) -> None:
    """Let strings ``"PREFIX:NAME"`` name models of your own.

    Parameters
    ----------
    prefix : str
        What stands before the colon, an identifier. A prefix that is registered already
        is replaced, and its models are loaded anew. Only this process knows it:
        where others load the model (``n_jobs`` with processes, a pickle opened
        elsewhere), let them import a module that registers it, or use a callable.
    loader : callable
        Takes the name after the colon and returns a module, or a `LoadedModel` with
        what belongs to the module. It is called at first use, once per process, and
        again after one of the `files` has changed.
    files : callable, default=None
        Takes the name and lists the files that `loader` reads; raises
        `FileNotFoundError` if they do not exist yet. Pass it if they (and `package`)
        determine all that the model computes: they then identify the model, which is
        not loaded if a cache has all rows. None identifies it by weights and code.
    package : str, default=None
        The package whose version may change what the model computes.

    Raises
    ------
    ValueError
        If `prefix` is not an identifier.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_torch_bridge import TorchFeatureExtractor, models
    >>> models.register("tiny", lambda name: torch.nn.Linear(2, int(name)))
    >>> TorchFeatureExtractor("tiny:3").transform(np.ones((1, 2))).shape
    (1, 3)
    """
    given: Any = prefix
    if not (isinstance(given, str) and given.isidentifier()):
        msg = f"`prefix` must be an identifier, got {prefix!r}."
        raise ValueError(msg)
    own = Library(loader, package, files, name_format="NAME", told=None)
    LIBRARIES[prefix] = own
