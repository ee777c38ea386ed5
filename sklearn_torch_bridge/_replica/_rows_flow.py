"""What shapes the tensors of a forward would have for other numbers of rows, tokens.

Each operation that is given rows, or what came of them, runs a second time on two rows
(or three), of fewer tokens. So no code of the model runs twice, and its results show
which axes follow the number of rows, and of tokens. What this cannot follow is not
known, and found by a forward of its own.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from sklearn_torch_bridge._torch_private import schema_of, tree_leaves
from sklearn_torch_bridge._types import Inputs

__all__ = ["RowsFlow"]

_FEW, _OTHER = 2, 3  # rows
_LONG = 4  # tokens, of which half are more than one
# They name sizes of the batch, and keep the order of its values.
_RESHAPING = ("aten::view", "aten::_unsafe_view", "aten::reshape", "aten::expand")
# They trust that all they are given fits, and read and write beyond it otherwise.
_TRUSTING = (
    "aten::lstm",
    "aten::mkldnn_rnn_layer",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
)

Twin = Callable[[torch.Tensor], torch.Tensor]


class RowsFlow:
    """Follows a batch through a forward, beside one of `n_others` rows.

    Where there is a mask, that has another number of tokens as well.
    """

    def __init__(self, inputs: Inputs, n_rows: int) -> None:
        few = _OTHER if n_rows == _FEW else _FEW
        self.n_others = few if n_rows > 1 else 1
        self._sizes = {n_rows: self.n_others} if n_rows > 1 else {}
        shape = (n_rows,) if inputs.mask is None else tuple(inputs.mask.shape)
        if len(shape) > 1 and shape[1] not in (0, n_rows):
            is_long = shape[1] >= _LONG
            self._sizes[shape[1]] = shape[1] // 2 if is_long else shape[1] * 2
        self._twins: Any = WeakTensorKeyDictionary()  # which torch has not typed
        for leaf in tree_leaves((inputs.args, dict(inputs.kwargs))):
            if _is_plain(leaf) and leaf.shape[:1] == (n_rows,):
                n_axes = 2 if leaf.ndim > 1 and leaf.shape[:2] == shape else 1
                self._twins[leaf] = self._resized(leaf, range(n_axes))

    def shape_of(self, tensor: torch.Tensor) -> tuple[int, ...] | None:
        """Return the shape for the others; None if it is not known."""
        twin = self._twins.get(tensor)
        return None if twin is None else tuple(twin.shape)

    def follow(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        written: list[torch.Tensor],
        result: Any,
    ) -> None:
        """Run an operation for the other rows, if it is given what comes of rows."""
        given = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in given if isinstance(leaf, torch.Tensor)]
        if not any(tensor in self._twins for tensor in tensors):
            return
        results = tree_leaves(result)
        twins: list[Any] = []
        # Nothing that is not ours is written to a second time.
        if func.namespace == "aten" and all(one in self._twins for one in written):
            twins = self._run(func, args, kwargs, results)
        for index, one in enumerate(results):
            if not _is_plain(one):
                continue
            twin = twins[index] if index < len(twins) else None
            self._twins.pop(one, None)
            if twin is not None and twin.ndim == one.ndim and twin.shape != one.shape:
                self._twins[one] = twin

    def _run(
        self, func: Any, args: Any, kwargs: dict[str, Any], results: list[Any]
    ) -> list[Any]:
        """Return what comes for the other rows; nothing where that does not run."""
        if schema_of(func).name in _RESHAPING:
            given, twin = self._twins.get(args[0]), None
            with suppress(RuntimeError):  # of another size than this expects
                if given is not None:
                    twin = self._reshaped(args[0], given, results[0])
            return [] if twin is None else [twin]
        if schema_of(func).name in _TRUSTING:
            with suppress(Exception):
                return self._like_run(func, args, kwargs)
            return []
        for twin_of in (self._known, self._known_or_as_many):
            with suppress(Exception):  # it needs the rows themselves
                twin = func(*_with(twin_of, args), **_with(twin_of, kwargs))
                return list(tree_leaves(twin))
        return []

    def _like_run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> list[Any]:
        """Return zeros of the shapes that come for the other rows, and run nothing."""

        def twin_of(tensor: torch.Tensor) -> torch.Tensor:
            is_weight = isinstance(tensor, nn.Parameter)
            twin = tensor if is_weight else self._known_or_as_many(tensor)
            return twin.to("meta")

        twin = func(*_with(twin_of, args), **_with(twin_of, kwargs))
        device = next(leaf for leaf in args if isinstance(leaf, torch.Tensor)).device
        return [
            torch.zeros_like(one, device=device) if _is_plain(one) else None
            for one in tree_leaves(twin)
        ]

    def _known(self, tensor: torch.Tensor) -> torch.Tensor:
        twin: torch.Tensor = self._twins.get(tensor, tensor)
        return twin

    def _known_or_as_many(self, tensor: torch.Tensor) -> torch.Tensor:
        """Take what is as long as there are rows (a state of zeros) for one of rows."""
        sizes = [*tensor.shape]
        axes = [sizes.index(size) for size in self._sizes if sizes.count(size) == 1]
        if tensor in self._twins or not axes:
            return self._known(tensor)
        return self._resized(tensor, axes)

    def _resized(self, tensor: torch.Tensor, axes: Iterable[int]) -> torch.Tensor:
        """Return a tensor of the other sizes on these axes, constant along them."""
        for axis in axes:
            shape = [*tensor.shape]
            if shape[axis] in self._sizes:
                shape[axis] = self._sizes[shape[axis]]
                tensor = tensor.narrow(axis, 0, 1).expand(shape)
        return tensor.contiguous()

    def _reshaped(
        self, given: torch.Tensor, twin: torch.Tensor, result: torch.Tensor
    ) -> torch.Tensor | None:
        """Reshape a twin as it would have been; None where that is not clear."""
        if result.numel() == given.numel():
            shape = _other_shape(given.shape, twin.shape, result.shape, self._sizes)
            return None if shape is None else twin.reshape(shape)
        sizes = [*result.shape]
        for axis, size in enumerate(given.shape, result.ndim - given.ndim):
            if size == sizes[axis]:
                sizes[axis] = twin.shape[axis - result.ndim]
        return twin.expand(sizes)


def _other_shape(
    given: Sequence[int],
    twin: Sequence[int],
    result: Sequence[int],
    sizes: Mapping[int, int],
) -> tuple[int, ...] | None:
    """Return what a view has for a twin of what it is of; None where that is not clear.

    >>> _other_shape((5, 4, 6), (2, 8, 6), (20, 6), {5: 2, 4: 8})
    (16, 6)
    >>> _other_shape((20, 6), (16, 6), (5, 4, 2, 3), {5: 2, 4: 8})
    (2, 8, 2, 3)
    """
    shape: list[int] = []
    parts: list[int] = []
    product = 1
    start = 0
    for place, size in enumerate(result):
        product *= size
        parts.append(size)
        end, own = start, 1
        while end < len(given) and own < product:
            own *= given[end]
            end += 1
        is_last = place == len(result) - 1
        if own != product:
            continue
        wanted = math.prod(twin[start:end] if not is_last else twin[start:])
        choices = [{one, sizes.get(one, one)} for one in parts]
        options = itertools.product(*choices if len(parts) > 1 else [{wanted}])
        fitting = [option for option in options if math.prod(option) == wanted]
        if len(fitting) != 1:
            return None
        shape += fitting[0]
        start, product, parts = end, 1, []
    return tuple(shape) if not parts else None


def _is_plain(value: Any) -> bool:
    is_tensor = type(value) is torch.Tensor and value.layout is torch.strided
    return is_tensor and not value.is_nested


def _with(twin_of: Twin, value: Any) -> Any:
    """Replace the tensors among arguments."""
    if isinstance(value, torch.Tensor):
        return twin_of(value)
    if isinstance(value, (tuple, list)):
        return type(value)([_with(twin_of, one) for one in value])
    if isinstance(value, dict):
        return {key: _with(twin_of, one) for key, one in value.items()}
    return value
