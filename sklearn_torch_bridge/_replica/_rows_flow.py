"""What shapes the tensors of a forward would have for another number of rows.

Each operation that is given rows, or what came of them, runs a second time on two rows
(or three). So no code of the model runs twice, and its results show whether an axis
that is as long as there are rows follows their number. What this cannot follow is not
known, and found by a forward of its own.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from sklearn_torch_bridge._torch_private import schema_of, tree_leaves
from sklearn_torch_bridge._types import Inputs

__all__ = ["RowsFlow"]

_FEW, _OTHER = 2, 3  # rows
# They name sizes of the batch, and keep the order of its values.
_RESHAPING = ("aten::view", "aten::_unsafe_view", "aten::reshape", "aten::expand")

Twin = Callable[[torch.Tensor], torch.Tensor]


class RowsFlow:
    """Follows a batch through a forward, beside the same of `n_others` rows."""

    def __init__(self, inputs: Inputs, n_rows: int) -> None:
        self.n_others = _OTHER if n_rows == _FEW else _FEW
        self._n_rows = n_rows
        self._twins: Any = WeakTensorKeyDictionary()  # which torch has not typed
        for leaf in tree_leaves((inputs.args, dict(inputs.kwargs))):
            if _is_plain(leaf) and leaf.shape[:1] == (n_rows,):
                self._twins[leaf] = self._of_others(leaf)

    def shape_of(self, tensor: torch.Tensor) -> tuple[int, ...] | None:
        """Return the shape for `n_others` rows; None if it is not known."""
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
            if not isinstance(one, torch.Tensor):
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
            given = self._twins.get(args[0])
            twin = None if given is None else self._reshaped(args[0], given, results[0])
            return [] if twin is None else [twin]
        for twin_of in (self._known, self._known_or_as_many):
            with suppress(Exception):  # it needs the rows themselves
                twin = func(*_with(twin_of, args), **_with(twin_of, kwargs))
                return list(tree_leaves(twin))
        return []

    def _known(self, tensor: torch.Tensor) -> torch.Tensor:
        twin: torch.Tensor = self._twins.get(tensor, tensor)
        return twin

    def _known_or_as_many(self, tensor: torch.Tensor) -> torch.Tensor:
        """Take what is as long as there are rows (a state of zeros) for one of rows."""
        if tensor not in self._twins and [*tensor.shape].count(self._n_rows) == 1:
            return self._of_others(tensor, [*tensor.shape].index(self._n_rows))
        return self._known(tensor)

    def _of_others(self, tensor: torch.Tensor, axis: int = 0) -> torch.Tensor:
        shape = [*tensor.shape]
        shape[axis] = self.n_others
        return tensor.narrow(axis, 0, 1).expand(shape).contiguous()

    def _reshaped(
        self, given: torch.Tensor, twin: torch.Tensor, result: torch.Tensor
    ) -> torch.Tensor | None:
        """Reshape a twin whose rows are outermost; None where they do not stay so."""
        n_rows, n_others = self._n_rows, self.n_others
        first, *rest = result.shape
        follows = twin.shape[0] * n_rows == given.shape[0] * n_others
        if not follows or twin.shape[1:] != given.shape[1:] or first % n_rows:
            return None
        shape = (first // n_rows * n_others, *rest)
        if twin.numel() == math.prod(shape):
            return twin.reshape(shape)
        is_wider = result.ndim == given.ndim and first == given.shape[0]
        return twin.expand(shape) if is_wider else None


def _is_plain(value: Any) -> bool:
    return type(value) is torch.Tensor and value.layout is torch.strided


def _with(twin_of: Twin, value: Any) -> Any:
    """Replace the tensors among arguments."""
    if isinstance(value, torch.Tensor):
        return twin_of(value)
    if isinstance(value, (tuple, list)):
        return type(value)([_with(twin_of, one) for one in value])
    if isinstance(value, dict):
        return {key: _with(twin_of, one) for key, one in value.items()}
    return value
