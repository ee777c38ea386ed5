"""Models of sentence-transformers: ``"st:NAME_OR_PATH"``, and objects as they are.

Modules, pooling, prompts and normalisation are those of the model: the result is that
of `SentenceTransformer.encode`.
"""

import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._packages import check_installed, import_optional
from sklearn_torch_bridge._tokenizers import lent
from sklearn_torch_bridge._types import Inputs, Pool
from sklearn_torch_bridge.models._fixed_length import NO_MAXIMUM
from sklearn_torch_bridge.models._hub_files import (
    find_folder,
    loading_from_hub,
    read_json,
    tree_of_files,
    with_bases,
)
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._longest_row import (
    Maximum,
    Unit,
    longest_position,
    smallest,
)
from sklearn_torch_bridge.models._missing_weights import loading_report
from sklearn_torch_bridge.models._prompts import Told, text_of_prompt

__all__ = [
    "check_no_pairs",
    "is_sentence_transformer",
    "load_st",
    "model_of_encode",
    "st_files",
    "st_told",
    "wrap_sentence_transformer",
]

_SETTINGS = "config_sentence_transformers.json"
_SCORES_PAIRS = (
    "A CrossEncoder scores pairs of texts instead: call its `predict`; or give it with "
    "its `preprocess`, for rows that are pairs, and an `output` or a `layer`."
)
_LIBRARY = "sentence_transformers."
_VECTOR = "sentence_embedding"
_PLAIN = "SentenceTransformer"
_NO_PROMPTS = {"query": "", "document": ""}  # of every model, unless it has its own
_TEXTS_AT_ONCE = 1_000
_POOLINGS = {"cls": "cls", "max": "max", "mean": "mean", "lasttoken": "last"}


def load_st(name: str) -> LoadedModel:
    """Load a model, but never code from the hub."""
    library = import_optional("sentence_transformers", purpose=f"`model`='st:{name}'")
    _check_modules(name)
    model = f"st:{name}"
    told = {"library": "sentence-transformers", "by_hand": "SentenceTransformer"}
    with loading_from_hub(model, **told), loading_report(model) as report:
        load = _class_of(name, library)
        module = load(name, device="cpu", trust_remote_code=False)
    missing = report.finish(module)
    return replace(wrap_sentence_transformer(module), missing=missing)


def _class_of(name: str, library: Any) -> Any:
    """Return the class that a folder was saved from, whose vectors are its own."""
    kind = _kind_of(name)
    if kind == "CrossEncoder":
        msg = f"`model`='st:{name}' must make a vector of each text. {_SCORES_PAIRS}"
        raise ValueError(msg)
    return getattr(library, kind, library.SentenceTransformer)


def _kind_of(name: str) -> str:
    """Return the class that is named beside a model, as versions from 5 name it."""
    try:
        folder = find_folder(name, _SETTINGS, prefix="st")
    except FileNotFoundError:  # not on this machine yet, or of an older version
        return _PLAIN
    return str(read_json(folder / _SETTINGS).get("model_type", _PLAIN))


def st_told(name: str) -> Told | None:
    """Read off the files what a model tells, if they are all there is to it."""
    folder = find_folder(name, "modules.json", "config.json", prefix="st")
    settings, listed = read_json(folder / _SETTINGS), folder / "modules.json"
    if settings.get("model_type", _PLAIN) != _PLAIN or not listed.is_file():
        return None
    own = {key: text or "" for key, text in settings.get("prompts", {}).items()}
    last = json.loads(listed.read_text("utf-8"))[-1]
    normalizes: bool | str = False
    if str(last["type"]).endswith(".Normalize"):
        names = read_json(folder / last["path"] / "config.json")
        taken, made = names.get("module_input_name"), names.get("module_output_name")
        normalizes = _normalized(made or taken)
    default = settings.get("default_prompt_name")
    return Told({**_NO_PROMPTS, **own}, default, _VECTOR, normalizes)


def check_no_pairs(model: Any) -> None:
    """Refuse a `CrossEncoder`, or its method, without a `preprocess` for pairs."""
    library = sys.modules.get("sentence_transformers")
    owner = getattr(model, "__self__", model)
    if library is not None and isinstance(owner, library.CrossEncoder):
        msg = f"`model` must make a vector of each row. {_SCORES_PAIRS}"
        raise TypeError(msg)


def _check_modules(name: str) -> None:
    """Check that the modules in a folder are classes of sentence-transformers.

    Versions of the library up to 5 run others from a folder without asking.
    """
    listed = Path(name) / "modules.json"
    if not listed.is_file():
        return
    for entry in json.loads(listed.read_text("utf-8")):
        kind = str(entry.get("type") if isinstance(entry, dict) else entry)
        if not kind.startswith(_LIBRARY):
            msg = (
                f"`model`='st:{name}' must be made of modules of that library, got "
                f"{kind!r}, whose code would have to be run. If you trust it, load it "
                "by SentenceTransformer(..., trust_remote_code=True) and give that."
            )
            raise ValueError(msg)


def st_files(name: str) -> list[Path]:
    """List the files of a model, including those of its modules in inner folders."""
    check_installed("sentence_transformers", purpose=f"`model`='st:{name}'")
    folder = find_folder(name, "modules.json", "config.json", prefix="st")
    return [*chain(*with_bases(folder, tree_of_files, prefix="st").values())]


def is_sentence_transformer(module: Any) -> bool:
    """Check for a model that makes vectors of texts, without importing its library."""
    library = sys.modules.get("sentence_transformers")
    names = ("SentenceTransformer", "SparseEncoder")  # the latter from version 5
    kinds = tuple(getattr(library, name, ()) for name in names)
    return library is not None and isinstance(module, kinds)


def model_of_encode(call: Any) -> Any:
    """Return the model of a bound `encode`, which takes texts as the model itself does.

    Its other methods choose a prompt, or answer otherwise.
    """
    owner = getattr(call, "__self__", None)
    if not is_sentence_transformer(owner):
        return None
    if call.__name__ == "encode":
        return owner
    msg = (
        f"`model` must not be the method {call.__name__!r} of {type(owner).__name__}, "
        "which takes texts and no tensors. Give the model itself, whose result is that "
        "of `encode`, with a `prompt` such as 'query'."
    )
    raise TypeError(msg)


def wrap_sentence_transformer(module: Any) -> LoadedModel:
    """Return the model with its own tokenizer, and truncated where it truncates."""
    longest = getattr(module, "truncate_dim", None)
    largest = getattr(module, "max_active_dims", None)  # of a `SparseEncoder`
    return LoadedModel(
        module,
        preprocess=_Preprocess(module),
        output=_VECTOR,
        pooling=_of_vectors(longest, largest),
        layer_pooling=_layer_pooling(module),
        prompts=module.prompts,
        default_prompt=module.default_prompt_name,
        normalizes=_normalizes(module),
    )


def _normalizes(module: nn.Module) -> bool | str:
    """Return whether the last part of a model brings vectors to length 1, or which."""
    last = [None, *module.children()][-1]
    is_made_for_it = any(
        one.__name__ == "Normalize" and one.__module__.startswith(_LIBRARY)
        for one in type(last).__mro__
    )
    name = getattr(last, "module_output_name", None)  # from sentence-transformers 6
    return is_made_for_it and _normalized(name)


def _normalized(output: str | None) -> bool | str:
    return True if output in (None, _VECTOR) else output


def _layer_pooling(module: nn.Module) -> str:
    """Return the name of the pooling of a model, for its layers."""
    modes = (getattr(part, "pooling_mode", None) for part in module.children())
    named = next((mode for mode in modes if isinstance(mode, str)), "auto")
    return _POOLINGS.get(named, "auto")


def _of_vectors(longest: int | None, largest: int | None) -> str | Pool:
    """Return what is done with the vector of a text: nothing, for most models."""
    if largest is not None:
        return partial(_keep_largest, largest)
    return "auto" if longest is None else partial(_truncate, longest)


def _keep_largest(
    n_kept: int, hidden: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    del mask  # of tokens; here is one vector per sentence
    top = hidden.abs().topk(min(n_kept, hidden.shape[-1])).indices
    return torch.zeros_like(hidden).scatter(-1, top, hidden.gather(-1, top))


def _truncate(
    longest: int, hidden: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    del mask  # of tokens; here is one vector per sentence
    return hidden[..., :longest]


@dataclass(frozen=True)
class _Preprocess:
    """Prepares texts, or what else the model takes, as it does, with a prompt.

    The prompt None is the model's own. Its tokens are marked where the model does not
    pool them. Texts are cut where the model cuts them, or at `longest` tokens.
    """

    module: Any
    prompt: str | None = None
    longest: int | None = None
    unit: ClassVar[Unit] = "tokens"

    def with_prompt(self, prompt: str) -> "_Preprocess":
        """Return the same for another prompt."""
        return replace(self, prompt=prompt)

    def __call__(self, rows: Sequence[Any]) -> Inputs:
        """Prepare rows as `encode` does."""
        with lent(self.module):
            features = self._features(rows, self.longest)
        mask = features.get("attention_mask")
        if self.longest is not None and mask is not None:
            most = int(mask.sum(1).max())
            if most > self.longest:
                msg = f"a text was to be cut at {self.longest} tokens, and has {most}."
                raise RuntimeError(msg)
        n_prompt = int(features.get("prompt_length") or 0)
        if n_prompt and _pools_prompt(self.module):
            n_prompt = 0
        return Inputs(args=(features,), mask=mask, n_prompt=n_prompt)

    def _features(
        self, rows: Sequence[Any], longest: int | None, **asked: Any
    ) -> dict[str, Any]:
        if not hasattr(self.module, "preprocess"):  # sentence-transformers 5
            return _preprocess_5(self.module, rows, self._text, longest)
        if longest is not None:
            asked["max_length"] = longest
        given = {"processing_kwargs": {"text": asked}} if asked else {}
        return dict(self.module.preprocess([*rows], prompt=self._text, **given))

    @property
    def _text(self) -> str:
        """What is put before each text."""
        if self.prompt is not None:
            return self.prompt
        told = Told(self.module.prompts, self.module.default_prompt_name)
        return text_of_prompt(None, told)

    @property
    def least(self) -> int:
        """The tokens of a text of one, with special ones and the prompt."""
        with lent(self.module):
            return 1 + len(self.module.tokenizer([self._text])["input_ids"][0])

    @property
    def maximum(self) -> Maximum | None:
        """How many tokens a text may have; None where nothing is cut."""
        if not callable(getattr(self.module, "tokenizer", None)):
            return None
        longest = self.module.max_seq_length
        if longest is None or longest >= NO_MAXIMUM:
            return longest_position(self.module)
        own = Maximum(int(longest), "tokens", "model")
        return smallest(longest_position(self.module), own)

    def full_lengths(self, rows: Sequence[Any]) -> NDArray[np.int64] | None:
        """Count the tokens of texts before they are cut; None where nobody knows.

        Some modules have a tokenizer that is called in another way, one of several, or
        none.
        """
        if not all(isinstance(row, str) for row in rows):
            return None
        counts: list[int] = []
        try:
            with lent(self.module):
                for start in range(0, len(rows), _TEXTS_AT_ONCE):
                    counts += self._count(rows[start : start + _TEXTS_AT_ONCE])
        except Exception:  # noqa: BLE001 - raised again by the batch
            return None
        return np.array(counts, np.int64) if len(counts) == len(rows) else None

    def _count(self, texts: Sequence[str]) -> list[int]:
        prompted = [f"{self._text}{text}" for text in texts]
        if "message" not in getattr(self.module[0], "modality_config", ()):
            encoded = self.module.tokenizer(prompted, verbose=False)
            return [len(ids) for ids in encoded["input_ids"]]
        counts: list[int] = []  # of a template with the text in it
        for text in texts:
            made = self._features([text], None, truncation=False)
            counts.append(made["input_ids"].shape[-1])
        return counts

    def cut_at(self, maximum: Maximum) -> "_Preprocess":
        """Return what cuts texts there; the module of the user stays as it is."""
        if maximum.whose == "model":
            return self
        first = self.module[0]
        takes = hasattr(self.module, "preprocess") or "max_seq_length" in vars(first)
        if not takes or not callable(getattr(self.module, "tokenizer", None)):
            msg = (
                f"`max_length` must be None for this model: its {type(first).__name__} "
                "has no tokenizer of transformers, which would cut its texts."
            )
            raise ValueError(msg)
        return replace(self, longest=maximum.n)


def _preprocess_5(
    module: Any, rows: Sequence[Any], prompt: str, longest: int | None
) -> dict[str, Any]:
    """Prepare rows as `encode` of sentence-transformers 5 does, but for the maximum."""
    if not prompt:
        return _tokenize_5(module, [*rows], longest)
    features = _tokenize_5(module, [f"{prompt}{row}" for row in rows], longest)
    ids = module.tokenize([prompt]).get("input_ids")
    if ids is not None:  # those of the prompt, without a special token at its end
        special = getattr(module.tokenizer, "all_special_ids", ())
        features["prompt_length"] = ids.shape[-1] - (ids[0, -1].item() in special)
    return features


def _pools_prompt(module: nn.Module) -> bool:
    """Return whether the tokens of a prompt enter the vector of a text."""
    return all(getattr(part, "include_prompt", True) for part in module.modules())


def _tokenize_5(module: Any, texts: list[str], longest: int | None) -> dict[str, Any]:
    """Tokenize as `encode` of sentence-transformers 5 does, but for the maximum."""
    if longest is None:
        return dict(module.tokenize(texts))
    first = copy.copy(module[0])
    first.max_seq_length = longest  # which is an attribute of the copy alone
    return dict(first.tokenize(texts))
