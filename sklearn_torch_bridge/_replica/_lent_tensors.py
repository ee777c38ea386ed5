"""The tensors of a replica: those of the module where that is safe, else copies.

What is small and no parameter is always copied. What is shared has a version counter of
its own, so that a write shows; what a forward was seen to write to is copied, with all
that lies in the same memory.
"""

import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sklearn_torch_bridge._devices import is_on
from sklearn_torch_bridge._pinned_memory import to_device
from sklearn_torch_bridge._replica._weights_on_device import (
    as_parameter,
    data_on_device,
    forget_copies,
)
from sklearn_torch_bridge._tensor_bytes import lacks_memory
from sklearn_torch_bridge._torch_private import storage_key, version_of

__all__ = ["Guard", "LentTensors", "Span", "extent", "is_plain"]

Span = tuple[int, int]
"""Bytes of a storage, from the first to the one behind the last."""

_SMALL_BYTES = 1 << 16  # a copy costs about a microsecond
_COMMON = (nn.Parameter, torch.Tensor)
_NOTHING = torch.empty(0)
_kind_of = attrgetter("device", "layout")
_ALIGNMENT = 64


@dataclass(frozen=True)
class Guard:
    """Memory that a forward must not write to, and whose it is: spans by id.

    Where `is_own`, it may: the memory is a copy that nothing else lies in.
    """

    span: Span
    owners: Mapping[int, Span]
    is_own: bool


class LentTensors:
    """Shares or copies tensors of `module` for one replica on `device`.

    `written` has the ids of tensors that its forwards write to, each with the span of
    its storage that is to be copied.
    """

    def __init__(
        self, module: nn.Module, device: torch.device, written: Mapping[int, Span]
    ) -> None:
        self.shared: list[torch.Tensor] = []
        self.is_untracked = False  # inference tensors have no version counters
        self._sources: list[torch.Tensor] = []  # of those shared
        self._module = weakref.ref(module)
        self._device = device
        self._written = written
        self._copied: list[tuple[torch.Tensor, torch.Tensor]] = []  # with the source
        self._restored: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._generators: list[tuple[torch.Generator, torch.Tensor]] = []
        self._kinds: list[Any] = []  # of the tensors that it was lent
        self._memory: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._pieces: dict[tuple[int, Span], torch.UntypedStorage] = {}

    def of_module(self, tensor: torch.Tensor) -> torch.Tensor:
        """Share or copy a parameter or a buffer, on the device."""
        if tensor.is_meta or is_lazy(tensor) or _is_freed(tensor):
            raise ValueError(_why_no_values(self._named_tensors(), tensor))
        is_parameter = isinstance(tensor, nn.Parameter)
        if id(tensor) in self._written:
            return self._copy_of_written(tensor)
        if is_parameter:
            return self._share(tensor, data_on_device(tensor, self._device))
        if _is_large(tensor):
            return self._share(tensor, data_on_device(tensor, self._device))
        data = tensor.detach()
        is_here = is_on(data, self._device)
        own = data.clone() if is_here else to_device(data, self._device)
        self._copied.append((own, tensor))
        return own

    def of_attribute(self, value: Any) -> Any:
        """Share or copy a tensor that is no parameter or buffer; copy a generator."""
        if isinstance(value, torch.Generator):
            self._generators.append((value.clone_state(), value.get_state()))
            return self._generators[-1][0]
        return self._of_attribute(value)

    def _of_attribute(self, tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) in self._written:
            return self._copy_of_written(tensor, moves=False)
        if _is_large(tensor):
            return self._share(tensor, tensor.data)
        own = tensor.detach().clone()
        self._copied.append((own, tensor))
        return own

    def _share(self, source: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
        is_parameter = isinstance(source, nn.Parameter)
        own = as_parameter(source, data) if is_parameter else data
        self.shared.append(own)
        if own.is_inference():
            self.is_untracked = True
        self._sources.append(source)
        return own

    def _copy_of_written(
        self, tensor: torch.Tensor, *, moves: bool = True
    ) -> torch.Tensor:
        if moves and not is_on(tensor, self._device):
            own = data_on_device(tensor, self._device).clone()
        else:
            own = self._piece(tensor, self._written[id(tensor)])
        if moves and isinstance(tensor, nn.Parameter):
            own = as_parameter(tensor, own)
        self._restored.append((own, tensor))
        return own

    def _piece(self, tensor: torch.Tensor, span: Span) -> torch.Tensor:
        """Copy a tensor together with those that lie in the same span of memory."""
        data, own_span = tensor.data, extent(tensor)
        start = span[0] // _ALIGNMENT * _ALIGNMENT
        if not is_plain(data) or own_span is None:
            return data.clone()
        storage = data.untyped_storage()
        if own_span[0] < start or max(own_span[1], span[1]) > span[1]:
            return data.clone()  # it was given other memory since
        if span[1] > storage.nbytes():
            return data.clone()
        key = (storage_key(storage), (start, span[1]))
        if key not in self._pieces:
            memory = torch.empty(0, dtype=torch.uint8, device=data.device)
            memory.set_(storage, start, (span[1] - start,), (1,))
            self._pieces[key] = memory.clone().untyped_storage()
        offset = (own_span[0] - start) // data.itemsize
        own = torch.empty(0, dtype=data.dtype, device=data.device)
        own.set_(self._pieces[key], offset, data.shape, data.stride())
        return own

    def begin(self) -> None:
        """Share no more what was replaced before the first forward, as cuDNN does."""
        if self.was_written():
            pairs = zip(self.shared, self._sources, strict=True)
            kept = [pair for pair in pairs if not version_of(pair[0])]
            self.shared = [own for own, _ in kept]
            self._sources = [source for _, source in kept]

    def can_be_lent_anew(self) -> bool:
        """Return whether other values will do for these tensors, at another time."""
        sources = self.sources()
        return not (self._restored or self._generators or self.is_untracked) and all(
            type(one) in _COMMON and is_plain(one) and is_on(one, self._device)
            for one in sources
        )

    def sources(self) -> list[torch.Tensor]:
        """List the tensors of the module: those shared, then those copied."""
        return [*self._sources, *(source for _, source in self._copied)]

    def release(self) -> None:
        """Hold nothing of the module's until it is lent anew."""
        self.restore()
        self._memory = []
        self._kinds = [*map(_kind_of, self.sources())]
        for own in self.shared:
            own.data = _NOTHING
        self._sources = []
        self._copied = [(own, _NOTHING) for own, _ in self._copied]

    def lend_anew(self, sources: Sequence[torch.Tensor]) -> bool:
        """Share, or copy, these in place of the ones before; False if that fails."""
        if [*map(_kind_of, sources)] != self._kinds or any(map(lacks_memory, sources)):
            return False
        n_shared = len(self.shared)
        self._sources = [*sources[:n_shared]]
        copied = zip(self._copied, sources[n_shared:], strict=True)
        self._copied = [(own, source) for (own, _), source in copied]
        outside = not torch.is_inference_mode_enabled()
        with nullcontext() if outside else torch.inference_mode(False):
            for own, source in zip(self.shared, self._sources, strict=True):
                own.data = source.data
            for own, source in self._copied:
                own.data = source.detach().clone()
        return True

    def note_memory(self) -> None:
        """Note which memory each tensor has, for a forward may give it another."""
        pairs = (*self._copied, *self._restored)
        owns = (*self.shared, *(own for own, _ in pairs))
        self._memory = [
            (own, own.data)
            for own in owns
            if type(own) in _COMMON and own.layout is torch.strided
        ]

    def restore(self) -> None:
        """Give what forwards write to the values again that it was lent with."""
        for own, data in self._memory:
            if own.data_ptr() != data.data_ptr() or own.shape != data.shape:
                own.data = data
        for own, source in self._restored:
            own.data.copy_(source.data)
        for generator, state in self._generators:
            generator.set_state(state)

    def copies_parameters(self) -> bool:
        """Return whether forwards write to parameters, which were copied therefore."""
        return any(isinstance(own, nn.Parameter) for own, _ in self._restored)

    def was_written(self) -> bool:
        """Check whether a forward has written to what is shared."""
        return any(map(version_of, self.shared))

    def spans_of_written(self) -> tuple[dict[int, Span], list[str]]:
        """Return the spans of shared tensors that were written to, and their names.

        Copies on another device are forgotten: nothing of the caller's has changed, and
        they have no name.
        """
        names = {id(one): name for name, one in self._named_tensors()}
        spans: dict[int, Span] = {}
        lost = []
        for own, source in zip(self.shared, self._sources, strict=True):
            if version_of(own):
                spans[id(source)] = extent(source) or (0, 0)
                if own.device == source.device:
                    lost.append(names.get(id(source), "a tensor"))
                else:
                    forget_copies(source)
        return spans, lost

    def _named_tensors(self) -> list[tuple[str, torch.Tensor]]:
        module = self._module()
        assert module is not None  # noqa: S101 - the caller runs it
        return [*module.named_parameters(), *module.named_buffers()]

    def note_written(self) -> None:
        """Restore from now on what was copied, and has been seen to be written to."""
        self._restored += [one for one in self._copied if id(one[1]) in self._written]

    def guards(self) -> dict[int, list[Guard]]:
        """Return what a forward must not write to, by the storage it lies in.

        That is what is shared, and what lies in the same memory as another tensor, but
        was copied alone. Other copies are there to be noted.
        """
        shared = list(zip(self.shared, self._sources, strict=True))
        places: dict[int, list[tuple[Span, bool, torch.Tensor, torch.Tensor]]]
        places = defaultdict(list)
        for pairs, is_shared in ((shared, True), (self._copied, False)):
            for own, source in pairs:
                span = extent(source)
                if span is not None and is_plain(own):
                    storage = storage_key(source.untyped_storage())
                    places[storage].append((span, is_shared, own, source))
        found: dict[int, list[Guard]] = defaultdict(list)
        for found_there in places.values():
            for group in _overlapping(found_there):
                is_own = len(group) == 1 and not group[0][1]
                both = group[0][0][0], max(span[1] for span, *_ in group)
                owners = {id(source): both for *_, source in group}
                for _, _, own, _ in group:
                    span = extent(own)
                    assert span is not None  # noqa: S101 - its source has one
                    guard = Guard(span, owners, is_own)
                    found[storage_key(own.untyped_storage())].append(guard)
        return found


def _overlapping(places: list[Any]) -> list[list[Any]]:
    """Part spans, each the first of a tuple, into groups that share no byte."""
    groups: list[list[Any]] = []
    end = -1
    for place in sorted(places, key=lambda place: place[0]):
        if place[0][0] >= end:
            groups.append([])
        groups[-1].append(place)
        end = max(end, place[0][1])
    return groups


def is_plain(tensor: torch.Tensor) -> bool:
    """Check whether a tensor is nothing but strided values in memory."""
    is_strided = tensor.layout is torch.strided and not tensor.is_nested
    is_own_class = type(tensor.data) is torch.Tensor
    return is_strided and is_own_class and not tensor.is_quantized


def _is_large(tensor: torch.Tensor) -> bool:
    """Check whether a copy for each call would cost more than sharing."""
    is_strided = tensor.layout is torch.strided and not tensor.is_nested
    return is_strided and tensor.nbytes > _SMALL_BYTES and is_plain(tensor)


def extent(tensor: torch.Tensor) -> Span | None:
    """Return the span of its storage that a plain tensor lies in; None without values.

    >>> extent(torch.zeros(4, 2, dtype=torch.float64)[1:, 0])
    (16, 56)
    """
    if not is_plain(tensor) or not tensor.numel():
        return None
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    last = int(sum((size - 1) * stride for size, stride in sizes))
    start = int(tensor.storage_offset()) * tensor.itemsize
    return start, start + (last + 1) * tensor.itemsize


def _is_freed(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and lacks_memory(tensor) is not None


def _why_no_values(
    tensors: list[tuple[str, torch.Tensor]], tensor: torch.Tensor
) -> str:
    name = next((name for name, one in tensors if one is tensor), "a tensor")
    if is_lazy(tensor):
        hint = "run one forward pass of the lazy module first."
        return f"`model` must know its shapes, but {name!r} is uninitialised: {hint}"
    hint = "load its weights first."
    if not tensor.is_meta:
        return f"`model` must hold values, but {name!r} was freed or resized: {hint}"
    return f"`model` must hold values, but {name!r} is on the meta device: {hint}"
