"""The weights of a module as a safetensors file, which holds numbers and no code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge._tensor_bytes import memory_of

__all__ = [
    "check_state",
    "digest_of_file",
    "digest_of_state",
    "fill",
    "looks_of",
    "read_state",
    "state_of",
    "write_state",
]

State = Mapping[str, torch.Tensor]

_PURPOSE = "Saving and loading weights"
_ALIASES, _DIGEST = "aliases", "digest"  # in the header of the file


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Give all that a module computes with, by name; the tensors are its own.

    That is its state dict, and the buffers that are left out of it.
    """
    state = dict(module.state_dict())
    for name, buffer in module.named_buffers(remove_duplicate=False):
        state.setdefault(name, buffer.detach())
    for name, value in state.items():
        if reason := _not_storable(value):
            msg = f"`model` must be stored without pickle, but its {name!r} {reason}."
            raise ValueError(msg)
    return state


def looks_of(state: State) -> dict[str, str]:
    """Say of each tensor what dtype and shape it has, as "float32 [2, 3]"."""
    return {
        name: f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        for name, tensor in state.items()
    }


def digest_of_state(state: State) -> str:
    """Sum up names, dtypes, shapes and values in 64 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=32)
    for name, look in sorted(looks_of(state).items()):
        digest.update(json.dumps([name, look]).encode())
        dense = _dense(state[name])
        digest.update(_bytes(dense) if dense.numel() else b"")
    return digest.hexdigest()


def check_state(state: State, looks: Mapping[str, str], *, whose: str) -> None:
    """Refuse tensors of other names, dtypes or shapes than in `looks`."""
    found = looks_of(state)
    if missing := sorted(set(looks) - set(found)):
        msg = f"{whose} must have {missing[0]!r} ({looks[missing[0]]}), as saved."
        raise ValueError(msg)
    if surplus := sorted(set(found) - set(looks)):
        msg = f"{whose} has {surplus[0]!r} ({found[surplus[0]]}), which was not saved."
        raise ValueError(msg)
    for name, look in looks.items():
        if found[name] != look:
            msg = f"{whose} must have {name!r} as {look}, as saved; got {found[name]}."
            raise ValueError(msg)


def write_state(state: State, path: Path, digest: str) -> None:
    """Write tensors to a file; those that are one and the same are written once."""
    library = import_optional("safetensors.torch", purpose=_PURPOSE)
    fault = import_optional("safetensors", purpose=_PURPOSE).SafetensorError
    written: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    known: dict[Any, str] = {}
    memory: set[int] = set()
    for name, tensor in state.items():
        key = _view_of(tensor) if tensor.numel() else name
        if key in known:
            aliases[name] = known[key]
            continue
        known[key] = name
        dense = _dense(tensor)
        if dense.untyped_storage().data_ptr() in memory:  # another view of it
            dense = dense.clone()
        memory.add(dense.untyped_storage().data_ptr())
        written[name] = dense
    header = {"format": "pt", _ALIASES: json.dumps(aliases), _DIGEST: digest}
    path.touch()  # where that is forbidden it says so
    try:
        library.save_file(written, path, metadata=header)
    except fault as error:  # what the disk says, in words alone
        msg = f"{path} could not be written: {error}"
        raise OSError(msg) from error
    except KeyError as error:  # a dtype
        msg = f"`model` has a tensor of {error}, which safetensors does not store."
        raise ValueError(msg) from error


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read what `write_state` wrote, as maps of the file."""
    safetensors = import_optional("safetensors", purpose=_PURPOSE)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a safetensors file is no mapping
            aliases = json.loads(file.metadata()[_ALIASES])
            return state | {name: state[other] for name, other in aliases.items()}
    except (
        *(AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError),
        safetensors.SafetensorError,
    ) as error:
        msg = f"{path} must be a whole file of weights, as saved: {error}"
        raise ValueError(msg) from error


def digest_of_file(path: Path) -> str | None:
    """Give the digest that a file says it has; None if it is no whole file."""
    safetensors = import_optional("safetensors", purpose=_PURPOSE)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            digest: str | None = (file.metadata() or {}).get(_DIGEST)
            return digest
    except (OSError, safetensors.SafetensorError):
        return None


def fill(module: nn.Module, state: State) -> None:
    """Give `module` the values of `state`, which has tensors of the same kinds."""
    persistent = module.state_dict()
    repeated = {name for name, own in state_of(module).items() if _repeats(own)}
    known = {name: state[name] for name in persistent if name not in repeated}
    module.load_state_dict(known, strict=False)
    named = (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    )
    with torch.no_grad():
        for name, tensor in named:
            if name in repeated:  # it cannot be written to, only replaced
                tensor.data = state[name].to(tensor.device, copy=True)
            elif name not in persistent:
                tensor.copy_(state[name])


def _repeats(tensor: torch.Tensor) -> bool:
    """Tell an expanded tensor, whose values are one in memory."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return any(size > 1 and step == 0 for size, step in pairs)


def _not_storable(value: Any) -> str:
    """Say why a part of a module's state cannot be stored, if so."""
    if not isinstance(value, torch.Tensor):
        return f"is no tensor but {type(value).__name__}"
    if is_lazy(value):
        return "is uninitialised: run one forward pass of the lazy module first"
    if value.is_meta:
        return "is on the meta device: load its weights first"
    if type(value) is not torch.Tensor:
        return f"is a {type(value).__name__}"
    if value.layout is not torch.strided or value.is_quantized or value.is_nested:
        return f"is not dense ({value.layout}, {value.dtype})"
    return ""


def _view_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Give what two tensors have in common that are one and the same."""
    place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
    return (*place, tensor.dtype, tensor.is_conj(), tensor.is_neg())


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    """Give the values in memory as they are, one after the other, on the CPU."""
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()


def _bytes(dense: torch.Tensor) -> memoryview:
    item = dense.element_size()
    start, n_bytes = int(dense.storage_offset()) * item, dense.numel() * item
    return memory_of(dense.untyped_storage(), start, n_bytes).data
