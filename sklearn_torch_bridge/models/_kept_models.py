"""The models of strings that stay loaded: those in use, and the last few others."""

from collections import OrderedDict
from itertools import chain
from weakref import WeakValueDictionary

from torch import nn

from sklearn_torch_bridge._free_memory import available_bytes
from sklearn_torch_bridge.models._file_state import FileState
from sklearn_torch_bridge.models._loaded_model import LoadedModel

__all__ = ["KeptModels"]

_MOST_KEPT = 8  # models of strings that nobody uses now
_SHARE = 4  # these may take at most one part in four of the free memory


class KeptModels:
    """Loaded models by their strings, with the loader and files they were read from.

    So the next fold of a search finds the model of the last one. Not thread-safe.
    """

    def __init__(self) -> None:
        self._in_use: WeakValueDictionary[str, LoadedModel] = WeakValueDictionary()
        self._kept: OrderedDict[str, LoadedModel] = OrderedDict()
        self._sources: dict[str, tuple[object, FileState]] = {}

    def get(self, model: str, loader: object) -> LoadedModel | None:
        """Return a model if `loader` has loaded it, from files as they are now.

        One that came from others is forgotten; one that is returned was used last.
        """
        found = self._in_use.get(model)
        if found is None:
            return None
        known, files = self._sources[model]
        if known is not loader or not files.is_current():
            self.forget(model)
            return None
        self._kept[model] = found
        self._kept.move_to_end(model)
        return found

    def put(
        self, model: str, loaded: LoadedModel, loader: object, files: FileState
    ) -> None:
        """Keep a model; free those used longest ago until number and memory fit."""
        self._in_use[model] = self._kept[model] = loaded
        self._sources[model] = (loader, files)
        free = available_bytes()
        sizes = {name: _n_bytes(one.module) for name, one in self._kept.items()}
        while len(self._kept) > 1:
            total = sum(sizes.values())
            fits = free is None or total * _SHARE <= free + total
            if len(self._kept) <= _MOST_KEPT and fits:
                return
            oldest, _ = self._kept.popitem(last=False)
            del sizes[oldest]

    def forget(self, model: str) -> None:
        """Forget a model; those who use it keep it."""
        for held in (self._in_use, self._kept, self._sources):
            held.pop(model, None)


def _n_bytes(module: nn.Module) -> int:
    """Compute the size of the parameters and buffers of a module."""
    tensors = chain(module.parameters(), module.buffers())
    return sum(tensor.nbytes for tensor in tensors)
