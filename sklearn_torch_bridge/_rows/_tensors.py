"""One tensor, on whatever device: its first axis is the rows'."""

import math
from typing import Any

import torch

from sklearn_torch_bridge._convert import hidden_fault
from sklearn_torch_bridge._errors import ConversionError
from sklearn_torch_bridge._rows._base import CheckedRows, Feed, Kind, Receiver
from sklearn_torch_bridge._rows._given_input import Given
from sklearn_torch_bridge._rows._missing_or_nan import without_rows_not_finite
from sklearn_torch_bridge._rows._model_dtype import to_model_dtype
from sklearn_torch_bridge._rows._ragged import RaggedFeed
from sklearn_torch_bridge._rows._rows_axis import check_rows_axis
from sklearn_torch_bridge._types import Inputs, Rows

__all__ = ["TENSOR", "TensorFeed"]

_TWO_AXES = 2


class _Tensor(Kind):
    """A dense tensor of real numbers."""

    name = "a tensor"
    has_arrays = True

    def recognises(self, given: Given) -> bool:
        return isinstance(given.X, torch.Tensor)

    def check(self, given: Given) -> CheckedRows:
        return self.check_tensor(given, given.X)

    def check_tensor(
        self, given: Given, tensor: torch.Tensor, *, counts: bool = True
    ) -> CheckedRows:
        """Check a tensor where it is, in scikit-learn's words.

        The estimator `counts` its columns, unless those are the entries of one column.
        """
        _check_dense(tensor)
        if tensor.ndim < _TWO_AXES:
            msg = (
                f"Expected 2D array, got {tensor.ndim}D tensor instead. Reshape your "
                "data using X.reshape(-1, 1) if it has one feature, X.reshape(1, -1) "
                "if it is one row."
            )
            raise ValueError(msg)
        given.check_not_empty(len(tensor))
        checked = without_rows_not_finite(self, tensor, given)
        if tensor.ndim == _TWO_AXES and counts:
            given.check_width(tensor)
        return checked

    def feed(self, values: Any, receiver: Receiver) -> Feed:
        check_rows_axis(receiver.loaded.module, values.ndim)
        if receiver.accepts.needs_mask:
            return RaggedFeed(values, receiver.accepts)
        return TensorFeed(values, receiver.accepts.dtype)

    def made_up(self, values: Any, receiver: Receiver) -> CheckedRows:
        return CheckedRows(self, values.new_zeros((1, *values.shape[1:])), 1)


TENSOR = _Tensor()


def _check_dense(tensor: torch.Tensor) -> None:
    if (
        tensor.layout is not torch.strided
        or tensor.is_complex()
        or tensor.is_quantized
        or tensor.is_nested
        or tensor.is_meta
    ):
        kind = "nested" if tensor.is_nested else tensor.layout
        msg = (
            "`X` must be a dense tensor of real numbers, got "
            f"{'a meta tensor of ' if tensor.is_meta else ''}{kind} {tensor.dtype}."
        )
        raise ConversionError(msg)
    fault = hidden_fault(tensor)
    if fault:
        msg = f"`X` must have its values in memory, and {fault}. Load them first."
        raise ConversionError(msg)


class TensorFeed(Feed):
    """The rows of a tensor, on whatever device it is."""

    def __init__(self, tensor: torch.Tensor, dtype: torch.dtype) -> None:
        self.row_size = math.prod(tensor.shape[1:])
        self._tensor = tensor.detach()
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._tensor)

    def batch(self, rows: Rows) -> Inputs:
        """Copy these rows, floats in the dtype of the model."""
        own = self._tensor[rows].clone()
        return Inputs(args=(to_model_dtype(own, self._dtype),))
