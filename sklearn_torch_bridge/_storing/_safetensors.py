"""The weights of a module as a safetensors file, which holds numbers and no code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge._tensor_bytes import lacks_memory, new_hash, tensor_bytes

__all__ = [
    "State",
    "check_state",
    "digest_of_file",
    "digest_of_state",
    "fill",
    "layout_of_state",
    "read_state",
    "state_of",
    "write_state",
]

State = Mapping[str, torch.Tensor]

_PURPOSE = "Saving and loading weights"
_ALIASES, _DIGEST = "aliases", "digest"  # in the header of the file


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict of a module, and buffers that it lacks, not as copies."""
    state = dict(module.state_dict())
    for name, buffer in module.named_buffers(remove_duplicate=False):
        state.setdefault(name, buffer.detach())
    for name, value in state.items():
        if reason := _not_storable(value):
            msg = f"`model` must be stored without pickle, but its {name!r} {reason}."
            raise ValueError(msg)
    return state


def layout_of_state(state: State) -> dict[str, str]:
    """Return the dtype and the shape of each tensor, as "float32 [2, 3]"."""
    return {
        name: f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        for name, tensor in state.items()
    }


def digest_of_state(state: State) -> str:
    """Compute a digest of names, dtypes, shapes and values, in 64 hexadecimals."""
    digest = new_hash()
    for name, layout in sorted(layout_of_state(state).items()):
        digest.update(json.dumps([name, layout]).encode())
        digest.update(tensor_bytes(state[name].detach().cpu()).data)
    return digest.hexdigest()


def check_state(state: State, layout: Mapping[str, str], *, whose: str) -> None:
    """Refuse tensors of other names, dtypes or shapes than in `layout`."""
    found = layout_of_state(state)
    if missing := sorted(set(layout) - set(found)):
        msg = f"{whose} must have {missing[0]!r} ({layout[missing[0]]}), as saved."
        raise ValueError(msg)
    if surplus := sorted(set(found) - set(layout)):
        msg = f"{whose} has {surplus[0]!r} ({found[surplus[0]]}), which was not saved."
        raise ValueError(msg)
    for name, saved in layout.items():
        if found[name] != saved:
            msg = f"{whose} must have {name!r} as {saved}, as saved; got {found[name]}."
            raise ValueError(msg)


def write_state(state: State, path: Path, digest: str) -> None:
    """Write tensors to a file; one that has several names is written once."""
    library = import_optional("safetensors.torch", purpose=_PURPOSE)
    fault = import_optional("safetensors", purpose=_PURPOSE).SafetensorError
    written: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    known: dict[Any, str] = {}
    memory: set[int] = set()
    for name, tensor in state.items():
        key = _identity(tensor) if tensor.numel() else name
        if key in known:
            aliases[name] = known[key]
            continue
        known[key] = name
        dense = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        place = dense.untyped_storage().data_ptr()
        written[name] = dense.clone() if place in memory else dense  # a view of another
        memory.add(place)
    header = {"format": "pt", _ALIASES: json.dumps(aliases), _DIGEST: digest}
    path.touch()  # raises a PermissionError, where safetensors has an error of its own
    try:
        library.save_file(written, path, metadata=header)
    except fault as error:  # a full disk among others; the text alone says what
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
    """Return the digest in the header of a file; None if the file is not whole."""
    safetensors = import_optional("safetensors", purpose=_PURPOSE)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            digest: str | None = (file.metadata() or {}).get(_DIGEST)
            return digest
    except (OSError, safetensors.SafetensorError):
        return None


def fill(module: nn.Module, state: State) -> None:
    """Copy the values of `state`, whose layout is that of `module`, into `module`."""
    persistent = module.state_dict()
    expanded = {name for name, own in state_of(module).items() if _is_expanded(own)}
    known = {name: state[name] for name in persistent if name not in expanded}
    module.load_state_dict(known, strict=False)
    parameters = module.named_parameters(remove_duplicate=False)
    with torch.no_grad():
        for name, tensor in (
            *parameters,
            *module.named_buffers(remove_duplicate=False),
        ):
            if name in expanded:  # it cannot be written to, only replaced
                tensor.data = state[name].to(tensor.device, copy=True)
            elif name not in persistent:
                tensor.copy_(state[name])


def _is_expanded(tensor: torch.Tensor) -> bool:
    """Check whether several values of a tensor are one in memory."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return any(size > 1 and step == 0 for size, step in pairs)


def _not_storable(value: Any) -> str:
    """Return why a part of a module's state cannot be stored, or ""."""
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
    lack = lacks_memory(value)
    return f"was freed or resized: it {lack}" if lack else ""


def _identity(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Return what is equal only of tensors that are views of the same values."""
    place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
    return (*place, tensor.dtype, tensor.is_conj(), tensor.is_neg())
