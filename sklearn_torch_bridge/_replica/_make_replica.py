"""A copy of a module on a device, for one run; it shares storage with the module.

`eval`, hooks and devices concern the replica alone, which no other thread holds.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

import torch
from torch import nn

from sklearn_torch_bridge._devices import check_device, is_on
from sklearn_torch_bridge._replica._borrowed_module import borrowed, set_eval
from sklearn_torch_bridge._replica._copy_trace import CopyTrace
from sklearn_torch_bridge._replica._findings import Findings, findings_of
from sklearn_torch_bridge._replica._forwards import Forwards
from sklearn_torch_bridge._replica._kept_replicas import (
    KeptReplica,
    NotKeptError,
    keep,
    take,
)
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
def replica(
    module: nn.Module, device: str | torch.device, *, is_kept: bool = True
) -> Iterator[Replica]:
    """Yield a replica; inside the block it is the caller's alone.

    Unless it `is_kept` for the next block, it may be held on to after this one.
    """
    chosen = check_device(device)
    findings = findings_of(module)
    may_keep = is_kept and not findings.written
    kept = take(module, chosen) if may_keep else None
    if kept is not None:
        findings.hold_for(kept.signature)
        with _kept(findings, chosen):
            forwards = Forwards(kept.lent, findings, chosen, kept.state)
            yield Replica(kept.own, chosen, forwards)
        keep(module, chosen, kept)
        return
    lent = LentTensors(module, chosen, findings.written)
    trace = CopyTrace()
    try:
        own = _copied(module, lent, trace)
    except NotCopyableError as reason:
        lent = LentTensors(module, chosen, {})
        with (
            borrowed(module, device, reason, findings) as (chosen, state),
            _kept(findings, chosen),
        ):
            yield Replica(module, chosen, Forwards(lent, findings, chosen, state))
        return
    findings.hold_for(trace.signature)
    with _kept(findings, chosen):
        set_eval(own)
        if chosen.type != "cpu":
            _join_weights(own, module, chosen)
            lent.begin()
        state = trace.state()
        yield Replica(own, chosen, Forwards(lent, findings, chosen, state))
    if may_keep and not findings.written:
        with suppress(NotKeptError):
            state.put_back()
            keep(module, chosen, KeptReplica(own, lent, state, trace))


def _copied(module: nn.Module, lent: LentTensors, trace: CopyTrace) -> nn.Module:
    # In inference mode what is made here would have no version counters.
    with torch.inference_mode(False):
        return copy_module(module, lent.of_module, lent.of_attribute, trace=trace)


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
