"""A module as plain arrays, and back: what pickles and joblib's workers get.

The module is pickled as always but for its tensors, whose memory goes beside it as
NumPy arrays. joblib writes these to one file for all tasks, which every worker maps
instead of holding a copy.
"""

import copy
import importlib
import io
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from mmap import mmap
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_torch_bridge._packages import is_installed
from sklearn_torch_bridge._pickling._segments import LARGE_BYTES, Place, segments_of
from sklearn_torch_bridge._tokenizers import is_tokenizer

__all__ = [
    "Export",
    "Packed",
    "cloudpickle",
    "detour",
    "export_values",
    "exported",
    "restore_values",
    "unpack",
]

# joblib needs it, and carried a copy of its own until 1.6.
cloudpickle: Any = importlib.import_module(
    "cloudpickle" if is_installed("cloudpickle") else "joblib.externals.cloudpickle"
)

Packed = tuple[Any, bytes, list[NDArray[np.uint8]]]  # graph, looks, memory
Detour = Callable[[Any, Packed], tuple[Any, ...]]

_HOW_TO_PICKLE = (
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
        return copy.deepcopy(self.content, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        packed = _pack(self.content)
        if _DETOURS:
            return _DETOURS[-1](self.content, packed)
        return unpack, packed


_EXPORTS: WeakValueDictionary[int, Export] = WeakValueDictionary()
_GRAPHS: WeakKeyDictionary[Any, NDArray[np.uint8]] = WeakKeyDictionary()
_LOCK = threading.Lock()
_DETOURS: list[Detour] = []  # of all threads: others than the caller's pickle


@contextmanager
def detour(reduce: Detour) -> Iterator[None]:
    """Let `reduce` say how modules and tokenizers are pickled, in every thread."""
    _DETOURS.append(reduce)
    try:
        yield
    finally:
        _DETOURS.remove(reduce)


def exported(content: Any) -> Export:
    """Wrap a module or a tokenizer: it pickles as arrays, and copies as itself.

    As long as the wrapper lives, the same object has the same: within one pickle it
    travels once.
    """
    with _LOCK:
        return _EXPORTS.setdefault(id(content), Export(content))


def export_values(state: Mapping[str, Any]) -> dict[str, Any]:
    """Wrap the modules and tokenizers among the values of an object's state."""
    return {
        name: exported(value)
        if isinstance(value, nn.Module) or is_tokenizer(value)
        else value
        for name, value in state.items()
    }


def restore_values(state: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `export_values` where nothing was pickled, as in `copy.copy`."""
    return {
        name: value.content if isinstance(value, Export) else value
        for name, value in state.items()
    }


class _Record(NamedTuple):
    """How a tensor looks at its memory."""

    kind: type[torch.Tensor]
    requires_grad: bool
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    place: Place | None
    device: str


def _pack(content: Any) -> Packed:
    """Give the object without tensors, how these look, and their memory."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    try:
        pickler.dump_all(content)
    except Exception as error:
        raise pickle.PicklingError(_not_picklable(content, error)) from error
    arrays, devices, places = segments_of(content, pickler.tensors)
    records = [
        _Record(
            kind=type(tensor),
            requires_grad=tensor.requires_grad,
            dtype=tensor.dtype,
            shape=tuple(tensor.shape),
            stride=tensor.stride(),
            place=place,
            device=str(tensor.device),
        )
        for tensor, place in zip(pickler.tensors, places, strict=True)
    ]
    looks = cloudpickle.dumps((records, [*map(str, devices)]))
    return _keep_graph(content, file.getvalue()), looks, arrays


def _keep_graph(content: Any, graph: bytes) -> bytes | NDArray[np.uint8]:
    """Give what is large as an array, the same one as long as it is equal."""
    if len(graph) <= LARGE_BYTES:
        return graph
    array = np.frombuffer(bytearray(graph), np.uint8)
    with _LOCK:
        before = _GRAPHS.get(content)
        if before is None or not np.array_equal(before, array):
            before = _GRAPHS[content] = array
        return before


def unpack(graph: Any, looks: bytes, arrays: list[NDArray[np.uint8]]) -> Any:
    """Undo `_pack`: what were one tensor, or views of one memory, are so again."""
    records, devices = pickle.loads(looks)  # noqa: S301 - part of an unpickling
    with torch.inference_mode(mode=False), torch.no_grad():
        memory = [
            torch.from_numpy(_writable(array)).to(_available(device))
            for array, device in zip(arrays, devices, strict=True)
        ]
        tensors = [_tensor(record, memory) for record in records]
        return _Unpickler(io.BytesIO(graph), tensors).load_all()


class _Pickler(cloudpickle.CloudPickler):
    """Pickles all but the memory of tensors, which are numbered."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[torch.Tensor] = []
        self._devices = _reachable()
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        """Give each tensor a number; None for all else."""
        if not isinstance(obj, torch.Tensor) or not self._is_plain(obj):
            return None
        if id(obj) not in self._numbers:
            self._numbers[id(obj)] = len(self.tensors)
            self.tensors.append(obj)
        return self._numbers[id(obj)]

    def dump_all(self, content: Any) -> None:
        """Dump an object, then what hangs on its tensors, which may hold others."""
        self.dump(content)
        n_done = 0
        while n_done < len(self.tensors):
            states = [vars(tensor) for tensor in self.tensors[n_done:]]
            n_done += len(states)
            self.dump(states)

    def _is_plain(self, tensor: torch.Tensor) -> bool:
        """Tell tensors that are their memory; torch knows how to pickle the others."""
        return (
            _has_plain_class(type(tensor))
            and tensor.layout is torch.strided
            and tensor.device.type in self._devices
            and not (tensor.is_quantized or tensor.is_nested)
            and not (tensor.is_conj() or tensor.is_neg())
        )


class _Unpickler(pickle.Unpickler):
    """Puts tensors where `_Pickler` left numbers."""

    def __init__(self, file: io.BytesIO, tensors: list[torch.Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, pid: int) -> torch.Tensor:
        """Give the tensor of a number."""
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


def _has_plain_class(cls: type) -> bool:
    """Tell `Tensor`, `Parameter` and subclasses of it that pickle as it does."""
    if cls is torch.Tensor or cls is nn.Parameter:
        return True
    return issubclass(cls, nn.Parameter) and all(
        getattr(cls, name, None) == getattr(nn.Parameter, name, None)
        for name in _HOW_TO_PICKLE
    )


def _tensor(record: _Record, memory: list[torch.Tensor]) -> torch.Tensor:
    """Make a tensor that looks at `memory`."""
    if record.place is None:
        data = torch.empty_strided(
            record.shape,
            record.stride,
            dtype=record.dtype,
            device=_available(record.device),
        )
    else:
        base = memory[record.place.array]
        data = torch.empty(0, dtype=record.dtype, device=base.device)
        offset = record.place.start // record.dtype.itemsize
        data.set_(base.untyped_storage(), offset, record.shape, record.stride)
    if record.kind is torch.Tensor:
        return data.requires_grad_(record.requires_grad)
    if record.kind is nn.Parameter:
        return nn.Parameter(data, record.requires_grad)
    made: torch.Tensor = torch.Tensor._make_subclass(  # noqa: SLF001 - as Parameter does
        record.kind, data, record.requires_grad
    )
    return made


def _writable(array: Any) -> NDArray[np.uint8]:
    """Give an array that may be written to, sharing memory as long as nobody does.

    joblib's workers get memory maps to read; a write to one would end the process.
    """
    if array.flags.writeable:
        owned: NDArray[np.uint8] = array
        return owned
    if isinstance(array, np.memmap) and array.filename and _is_mapping(array.base):
        name, dtype = array.filename, array.dtype
        return np.memmap(name, dtype, "c", array.offset, array.shape)
    return np.array(array)


def _is_mapping(base: Any) -> bool:
    """Tell whether an array on `base` is all of a map, whose offset it knows."""
    return isinstance(base, mmap)


def _reachable() -> set[str]:
    """Name the kinds of devices whose memory can be had here."""
    accelerator = (
        torch.accelerator.current_accelerator()
        if torch.accelerator.is_available()
        else None
    )
    return {"cpu"} | ({accelerator.type} if accelerator else set())


def _available(name: str) -> torch.device:
    """Give the device of that name if it is here, else its like, else the CPU."""
    kind, _, index = name.partition(":")
    if kind == "cpu" or kind not in _reachable():
        return torch.device("cpu")
    is_here = int(index or 0) < torch.accelerator.device_count()
    return torch.device(name if is_here else kind)


def _not_picklable(content: Any, error: Exception) -> str:
    reason = str(error).partition("\n")[0]
    return (
        f"what goes to other processes or into a file must be picklable, and "
        f"{type(content).__name__} is not: {reason} Give a callable that builds it "
        "(`model`=build), stay in this process (`n_jobs`=1, or joblib's threading "
        "backend), or store its weights without pickle (`TorchFeatureExtractor.save`)."
    )
