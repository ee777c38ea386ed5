"""Weights that no file held: NaN instead of random, so that what depends on them shows.

The libraries fill them at random, and most say so in a log alone.
"""

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from itertools import chain
from typing import Any

import torch
from torch import nn

from sklearn_torch_bridge.models._own_draws import OwnDraws

__all__ = ["LoadingReport", "loading_report"]

_MOST_NAMES = 3
_LOCK = threading.RLock()
_SAID: set[tuple[str, ...]] = set()


class LoadingReport:
    """What loaders have found, in a block of `loading_report`."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._unset: dict[int, torch.Tensor] = {}
        self._ignored: dict[str, None] = {}

    def add(
        self, module: nn.Module, missing: Sequence[str], ignored: Sequence[str]
    ) -> None:
        """Add what one loader has found; of a tied weight, one name is enough."""
        named, without = _tensors(module), set(missing)
        self._unset |= {id(one): one for name, one in named if name in without}
        for name, one in named:
            if name not in without:
                self._unset.pop(id(one), None)
        self._ignored |= dict.fromkeys(sorted(ignored))

    def finish(self, module: nn.Module) -> tuple[str, ...]:
        """Set what is missing in `module` to NaN, and return the names."""
        found: dict[int, str] = {}
        for name, one in _tensors(module):
            if id(one) in self._unset and one.is_floating_point():
                found.setdefault(id(one), name)
                with torch.no_grad():
                    one.fill_(torch.nan)
        if self._ignored and (said := (self._model, *self._ignored)) not in _SAID:
            _SAID.add(said)
            msg = (
                f"`model`={self._model!r} ignores weights in its files, as of a head: "
                f"{_named([*self._ignored])}. If it should have them, load it "
                "yourself and give the module; else nothing is lost. It is said once."
            )
            warnings.warn(msg, UserWarning, stacklevel=2)
        return tuple(found.values())


def _named(names: Sequence[str]) -> str:
    """Name the first few, and count all."""
    shown = ", ".join(map(repr, names[:_MOST_NAMES]))
    return shown if len(names) <= _MOST_NAMES else f"{shown} ({len(names)} in all)"


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """List parameters and buffers under all their names."""
    parts = (module.named_parameters, module.named_buffers)
    return [*chain(*(part(remove_duplicate=False) for part in parts))]


@contextmanager
def loading_report(model: str) -> Iterator[LoadingReport]:
    """Yield a report of all that is loaded in the block, also deep inside a library."""
    report = LoadingReport(model)
    with ExitStack() as patches:
        patches.enter_context(_LOCK)
        patches.enter_context(OwnDraws())
        place = _patched(nn.Module, "load_state_dict", _of_state_dict, report)
        patches.enter_context(place)
        if "transformers" in sys.modules:
            base = sys.modules["transformers"].PreTrainedModel
            place = _patched(base, "from_pretrained", _of_pretrained, report)
            patches.enter_context(place)
        yield report


@contextmanager
def _patched(
    owner: Any, name: str, make: Callable[..., Any], report: LoadingReport
) -> Iterator[None]:
    """Put another method in the place of one, which others may go on calling."""
    original = vars(owner)[name]
    setattr(owner, name, make(original, report))
    try:
        yield
    finally:
        setattr(owner, name, original)


def _of_state_dict(original: Any, report: LoadingReport) -> Any:
    @wraps(original)
    def load_state_dict(module: nn.Module, *args: Any, **options: Any) -> Any:
        found = original(module, *args, **options)
        report.add(module, found.missing_keys, found.unexpected_keys)
        return found

    return load_state_dict


def _of_pretrained(original: Any, report: LoadingReport) -> Any:
    function = original.__func__

    @wraps(function)
    def from_pretrained(cls: Any, *args: Any, **options: Any) -> Any:
        wanted = options.pop("output_loading_info", False)
        made, info = function(cls, *args, output_loading_info=True, **options)
        report.add(made, info["missing_keys"], info["unexpected_keys"])
        return (made, info) if wanted else made

    return classmethod(from_pretrained)
