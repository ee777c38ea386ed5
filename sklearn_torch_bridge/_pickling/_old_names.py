"""Load pickles that were made when modules of this package had other names."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Self

__all__ = ["Place", "find_old_names"]

_PACKAGE = __name__.partition(".")[0]

# Old module -> each name that pickles have from it -> the module where it is today.
_NAMES = {
    "_export": {"_Record": "_pickling._old_names", "unpack": "_pickling"},
    "_feature_extractor": {"TorchFeatureExtractor": ""},
    "_precompute": {"Precomputed": "", "precompute": ""},
    "_segments": {"Place": "_pickling._old_names"},
    "_share": {"Shared": "", "share": ""},
    "_tensor_to_array": {"TensorToArray": ""},
    "inspection._drift": {"DriftDisplay": "inspection"},
    "inspection._embedding": {"EmbeddingDisplay": "inspection"},
    "inspection._similarity": {"SimilarityDisplay": "inspection"},
    "models._loaded": {"LoadedModel": "models"},
    "stats._geometry": {"effective_rank": "stats", "intrinsic_dimension": "stats"},
    "stats._tests": dict.fromkeys(
        ("KSDriftResult", "TwoSampleResult", "energy_test", "ks_drift", "mmd_test"),
        "stats",
    ),
}


class Place(tuple[Any, ...]):
    """The named tuple that had the place of a tensor; read as a plain tuple."""

    __slots__ = ()

    def __new__(cls, *fields: Any) -> Self:
        return super().__new__(cls, fields)


_Record = Place  # the description of a tensor was one, too


class _OldModules(MetaPathFinder, Loader):
    """Make an old module when a pickle asks for it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        """Return a spec for an old module, None for any other."""
        package, _, old = fullname.partition(".")
        is_old = package == _PACKAGE and old in _NAMES
        return ModuleSpec(fullname, self) if is_old else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill an old module with its names."""
        old = module.__name__.partition(".")[2]
        for name, home in _NAMES[old].items():
            today = importlib.import_module(f"{_PACKAGE}.{home}".rstrip("."))
            vars(module)[name] = getattr(today, name)


def find_old_names() -> None:
    """Have old modules found, after all others: it costs nothing until one is asked."""
    sys.meta_path.append(_OldModules())
