"""A copy of a module on a device, for one run; it shares storage with the module.

`eval`, hooks and devices concern the replica alone, which no other thread holds.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn

from sklearn_torch_bridge._devices import check_device, is_on
from sklearn_torch_bridge._replica._borrowed_module import borrowed, set_eval
from sklearn_torch_bridge._replica._findings import Findings, findings_of
from sklearn_torch_bridge._replica._forwards import Forwards
from sklearn_torch_bridge._replica._lent_tensors import LentTensors
from sklearn_torch_bridge._replica._module_copy import NotCopyableError, copy_module
from sklearn_torch_bridge._replica._random_state import kept_random_state

__all__ = ["Replica", "replica"]

_OTHERS = ("NumPy", "Python")  # generators that are not torch's


class Replica(NamedTuple):
    """A module that computes what the caller's does in eval mode, and its device."""

    module: nn.Module
    place: torch.device
    forwards: Forwards


@contextmanager
def replica(module: nn.Module, device: str | torch.device) -> Iterator[Replica]:
    """Yield a replica; inside the block it is the caller's alone."""
    chosen = check_device(device)
    findings = findings_of(module)
    lent = LentTensors(module, chosen, findings.written)
    try:
        own = _copied(module, lent, findings)
    except NotCopyableError as reason:
        lent = LentTensors(module, chosen, {})
        with (
            borrowed(module, device, reason, findings) as chosen,
            _kept(findings, chosen),
        ):
            yield Replica(module, chosen, Forwards(lent, findings, chosen))
    else:
        with _kept(findings, chosen):
            set_eval(own)
            if chosen.type != "cpu":
                _join_weights(own, module, chosen)
                lent.begin()
            yield Replica(own, chosen, Forwards(lent, findings, chosen))


def _copied(module: nn.Module, lent: LentTensors, findings: Findings) -> nn.Module:
    signature: list[Any] = []
    # In inference mode what is made here would have no version counters.
    with torch.inference_mode(False):
        own = copy_module(
            module, lent.of_module, lent.of_attribute, signature=signature
        )
    findings.hold_for(signature)
    return own


def _kept(findings: Findings, device: torch.device) -> Any:
    """Keep the random state for a model whose draws cannot all be sent elsewhere."""
    # What is put back is torch's alone.
    of_torch = (not one.startswith(_OTHERS) for one in findings.foreign.values())
    is_needed = findings.seeds or any(of_torch)
    return kept_random_state(device) if is_needed else nullcontext()


def _join_weights(own: nn.Module, module: nn.Module, device: torch.device) -> None:
    """Join moved weights of recurrent layers, as cuDNN would at each call, and warn."""
    if all(is_on(weights, device) for weights in module.parameters()):
        return
    for part in own.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()
