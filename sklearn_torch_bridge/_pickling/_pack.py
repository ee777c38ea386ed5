"""Pickle modules so that the memory of their tensors is in a few NumPy arrays.

joblib writes such arrays to one file for all tasks, which every worker maps instead of
holding a copy. All else in a module is pickled as always.
"""

import importlib
import io
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from mmap import mmap
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import torch
from torch import nn

from sklearn_torch_bridge._devices import available, device_types
from sklearn_torch_bridge._packages import is_installed
from sklearn_torch_bridge._pickling._deep_copy import culprit, deep_copy
from sklearn_torch_bridge._pickling._made_anew import reduced
from sklearn_torch_bridge._pickling._module_calls import is_module_call
from sklearn_torch_bridge._pickling._segments import LARGE_BYTES, segments_of
from sklearn_torch_bridge._tensor_bytes import Bytes
from sklearn_torch_bridge._tokenizers import is_tokenizer
from sklearn_torch_bridge._torch_private import make_parameter

__all__ = [
    "Export",
    "Packed",
    "cloudpickle",
    "export_values",
    "exported",
    "reducer_override",
    "restore_values",
    "unpack",
]

# joblib needs it, and carried a copy of its own until 1.6.
cloudpickle: Any = importlib.import_module(
    "cloudpickle" if is_installed("cloudpickle") else "joblib.externals.cloudpickle"
)

# The object without its tensors, the pickled descriptions of these, and their memory.
Packed = tuple[Any, bytes, list[Bytes]]
Reducer = Callable[[Any, Packed], tuple[Any, ...]]

_PICKLE_METHODS = (
    *("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__"),
    "__torch_dispatch__",
)


class Export:
    """An object about to be pickled or copied; made by `exported`."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __copy__(self) -> "Export":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return deep_copy(self.content, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        packed = _pack(self.content)
        return _OVERRIDES[-1](self.content, packed) if _OVERRIDES else (unpack, packed)


_MUST = "what goes to other processes or into a file must be picklable"
_EXPORTS: WeakValueDictionary[int, Export] = WeakValueDictionary()
_GRAPHS: WeakKeyDictionary[Any, Bytes] = WeakKeyDictionary()
_LOCK = threading.Lock()
_OVERRIDES: list[Reducer] = []  # for all threads: engines pickle in their own


@contextmanager
def reducer_override(reduce: Reducer) -> Iterator[None]:
    """Pickle modules and tokenizers in every thread as `reduce` returns them."""
    _OVERRIDES.append(reduce)
    try:
        yield
    finally:
        _OVERRIDES.remove(reduce)


def exported(content: Any) -> Export:
    """Wrap a module or a tokenizer: it pickles as arrays, and copies as itself.

    One object has one wrapper as long as that lives, so that a pickle has it once.
    """
    with _LOCK:
        return _EXPORTS.setdefault(id(content), Export(content))


def export_values(state: Mapping[str, Any]) -> dict[str, Any]:
    """Wrap modules, their methods and tokenizers among the values of a state."""
    return {
        name: exported(value)
        if isinstance(value, nn.Module) or is_module_call(value) or is_tokenizer(value)
        else value
        for name, value in state.items()
    }


def restore_values(state: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `export_values` where nothing was pickled, as in `copy.copy`."""
    return {
        name: value.content if isinstance(value, Export) else value
        for name, value in state.items()
    }


def _pack(content: Any) -> Packed:
    """Return the object without tensors, their descriptions, and their memory."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    try:
        pickler.dump_all(content)
    except Exception as error:
        kind, reason = type(content).__name__, str(error).partition("\n")[0]
        if reason.startswith(_MUST):  # of a module inside, where all is said
            raise
        msg = (
            f"{_MUST}, and "
            f"{kind} is not: {reason}.{culprit(content, _pickle_alone, error)} "
            "Give a callable that builds it (`model`=build), stay in this process "
            "(`n_jobs`=1, or joblib's threading backend), or store its weights "
            "without pickle (`TorchFeatureExtractor.save`)."
        )
        raise pickle.PicklingError(msg) from error
    arrays, devices, places = segments_of(content, pickler.tensors)
    # Plain tuples: a class of ours would be in pickles under a name that may change.
    descriptions = [
        (
            *(type(tensor), tensor.requires_grad, tensor.dtype),
            *(tuple(tensor.shape), tensor.stride(), place, str(tensor.device)),
        )
        for tensor, place in zip(pickler.tensors, places, strict=True)
    ]
    described = cloudpickle.dumps((descriptions, [*map(str, devices)]))
    return _keep_graph(content, file.getvalue()), described, arrays


def _pickle_alone(value: Any) -> None:
    _Pickler(io.BytesIO()).dump_all(value)


def _keep_graph(content: Any, graph: bytes) -> bytes | Bytes:
    """Return what is large as an array, the same one as long as it is equal."""
    if len(graph) <= LARGE_BYTES:
        return graph
    array = np.frombuffer(bytearray(graph), np.uint8)
    with _LOCK:
        before = _GRAPHS.get(content)
        if before is None or not np.array_equal(before, array):
            before = _GRAPHS[content] = array
        return before


def unpack(graph: Any, described: bytes, arrays: list[Bytes]) -> Any:
    """Undo `_pack`: tensors that were one, or views of one memory, are so again."""
    descriptions, devices = pickle.loads(described)  # noqa: S301 - within an unpickling
    with torch.inference_mode(mode=False), torch.no_grad():
        memory = [
            torch.from_numpy(_writable(array)).to(available(device))
            for array, device in zip(arrays, devices, strict=True)
        ]
        tensors = [_tensor(one, memory) for one in descriptions]
        return _Unpickler(io.BytesIO(graph), tensors).load_all()


class _Pickler(cloudpickle.CloudPickler):
    """Pickle an object with numbers in the place of its tensors."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[torch.Tensor] = []
        self._device_types = device_types()
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        """Return the number of a tensor, None for all else."""
        if not isinstance(obj, torch.Tensor) or not self._is_only_memory(obj):
            return None
        if id(obj) not in self._numbers:
            self._numbers[id(obj)] = len(self.tensors)
            self.tensors.append(obj)
        return self._numbers[id(obj)]

    def reducer_override(self, obj: Any) -> Any:
        """Return how to make an object again that torch would not."""
        found = reduced(obj)
        return super().reducer_override(obj) if found is None else found

    def dump_all(self, content: Any) -> None:
        """Dump an object, then the attributes of its tensors, which may hold others."""
        self.dump(content)
        n_done = 0
        while n_done < len(self.tensors):
            states = [vars(tensor) for tensor in self.tensors[n_done:]]
            n_done += len(states)
            self.dump(states)

    def _is_only_memory(self, tensor: torch.Tensor) -> bool:
        """Check that memory and a description are all of it; torch pickles others."""
        return (
            _pickles_like_parameter(type(tensor))
            and tensor.layout is torch.strided
            and tensor.device.type in self._device_types
            and not (tensor.is_quantized or tensor.is_nested)
            and not (tensor.is_conj() or tensor.is_neg())
        )


class _Unpickler(pickle.Unpickler):
    """Put tensors where `_Pickler` left numbers."""

    def __init__(self, file: io.BytesIO, tensors: list[torch.Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, pid: int) -> torch.Tensor:
        """Return the tensor of a number."""
        return self._tensors[pid]

    def load_all(self) -> Any:
        """Load what `dump_all` dumped."""
        content = self.load()
        n_done = 0
        while n_done < len(self._tensors):
            states = self.load()
            for tensor, state in zip(self._tensors[n_done:], states, strict=False):
                vars(tensor).update(state)
            n_done += len(states)
        return content


def _pickles_like_parameter(cls: type) -> bool:
    """Check for `Tensor`, `Parameter`, and subclasses of it that pickle as it does."""
    if cls is torch.Tensor or cls is nn.Parameter:
        return True
    return issubclass(cls, nn.Parameter) and all(
        getattr(cls, name, None) == getattr(nn.Parameter, name, None)
        for name in _PICKLE_METHODS
    )


def _tensor(description: tuple[Any, ...], memory: list[torch.Tensor]) -> torch.Tensor:
    """Make a tensor that is a view of `memory`."""
    cls, requires_grad, dtype, shape, stride, place, device = description
    if place is None:
        where = available(device)
        data = torch.empty_strided(shape, stride, dtype=dtype, device=where)
    else:
        number, start = place
        base = memory[number]
        data = torch.empty(0, dtype=dtype, device=base.device)
        data.set_(base.untyped_storage(), start // dtype.itemsize, shape, stride)
    if cls is torch.Tensor:
        return data.requires_grad_(requires_grad)
    if cls is nn.Parameter:
        return nn.Parameter(data, requires_grad)
    made: torch.Tensor = make_parameter(cls, data, requires_grad)
    return made


def _writable(array: Any) -> Bytes:
    """Return an array that may be written to, with the same memory until it is.

    joblib's workers get read-only memory maps; a write to one would end the process.
    """
    if array.flags.writeable:
        owned: Bytes = array
        return owned
    # Its offset is that of the array only where the whole map is the array.
    is_whole_map = isinstance(array, np.memmap) and isinstance(array.base, mmap)
    if is_whole_map and (name := array.filename):
        return np.memmap(name, array.dtype, "c", array.offset, array.shape)
    return np.array(array)
