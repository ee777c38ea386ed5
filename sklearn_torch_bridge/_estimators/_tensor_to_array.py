"""`TensorToArray`: the step between tensors and scikit-learn."""

from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import DTypeLike
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, validate_data

from sklearn_torch_bridge._checks import (
    SELECTOR_WORDS,
    check_dtype_name,
    check_options,
    is_selector,
    must_be,
    one_of,
)
from sklearn_torch_bridge._convert import (
    as_array,
    check_indices,
    check_there,
    held_dtype,
    kept_integers,
    output_or_rows,
    refuse_kind,
    stack,
    tensor_rows,
    to_numpy,
    to_tensor,
)
from sklearn_torch_bridge._estimators._base_transformer import BridgeTransformer
from sklearn_torch_bridge._estimators._callbacks import fit_task, with_callbacks
from sklearn_torch_bridge._types import REAL_KINDS, Selector

__all__ = ["TensorToArray"]

_MATRIX = 2
_LENIENT = {"accept_sparse": True, "ensure_all_finite": False, "allow_nd": True}


class TensorToArray(BridgeTransformer):
    """Turn tensors into arrays inside a Pipeline, and back.

    Parameters
    ----------
    dtype : dtype, default=None
        Of the array. None keeps the tensor's own; half types (float16, bfloat16,
        float8) become float32. A value that does not fit is an error.
    copy : bool or None, default=True
        True: the array owns its memory. None: it shares the tensor's, read-only,
        where that is safe. False: it shares, or raises.
    flatten : bool, default=False
        Make rows of several axes into rows of one.
    output : str, int, tuple of these or None, default=None
        The field to take where `X` is a model's output: a mapping, tuple, dataclass
        or ``ModelOutput``.
    sparse : {"keep", "dense"}, default="keep"
        Whether sparse tensors become `scipy.sparse` arrays (CSR; CSC stays) with int32
        indices, or dense arrays.

    Attributes
    ----------
    n_features_in_ : int
        Columns seen in `fit`. Not there for rows of several axes.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, where `X` was a frame with names.
    dtype_ : torch.dtype
        Of what `inverse_transform` returns: that of the tensors of `fit`, or float32.
    device_ : torch.device
        Where `inverse_transform` puts it: the device of those tensors, else the CPU.
    row_shape_ : tuple of int
        The shape of one row before `flatten`.

    Notes
    -----
    Nothing has to be fitted: `transform` works before `fit`. A list, an object array
    or a Series of tensors holds one row in each. NaN and infinity pass, for an imputer
    after this step. Arrays, frames and SciPy's sparse containers pass under the same
    rules. Rows of several axes keep them unless `flatten`; they have no column names.

    Examples
    --------
    >>> import torch
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X = torch.tensor([[0.0, 1.0], [2.0, 3.0]], requires_grad=True)
    >>> make_pipeline(TensorToArray(), StandardScaler()).fit_transform(X)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """

    _for_columns = "Use flatten=True."

    def __init__(
        self,
        *,
        dtype: DTypeLike | None = None,
        copy: bool | None = True,
        flatten: bool = False,
        output: Selector = None,
        sparse: str = "keep",
    ) -> None:
        self.dtype = dtype
        self.copy = copy
        self.flatten = flatten
        self.output = output
        self.sparse = sparse

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the number of columns, and what `inverse_transform` gives back.

        Parameters
        ----------
        X : torch.Tensor or array-like of shape (n_samples, ...)
            Rows.
        y : None
            Ignored.

        Returns
        -------
        self : TensorToArray
            The estimator itself.
        """
        self.fit_transform(X)
        return self

    @with_callbacks
    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Do `fit` and `transform` in one conversion.

        Parameters
        ----------
        X : torch.Tensor or array-like of shape (n_samples, ...)
            Rows.
        y : None
            Ignored.

        Returns
        -------
        array : ndarray or scipy.sparse array of shape (n_samples, ...)
            One row per sample.
        """
        with fit_task(self, X, y):
            return self._convert(X, reset=True)

    def transform(self, X: Any) -> Any:
        """Turn tensors into an array.

        Parameters
        ----------
        X : torch.Tensor or array-like of shape (n_samples, ...)
            Rows.

        Returns
        -------
        array : ndarray or scipy.sparse array of shape (n_samples, ...)
            One row per sample.
        """
        return self._convert(X, reset=False)

    def inverse_transform(self, X: Any) -> torch.Tensor:
        """Turn an array into a tensor like those that `fit` saw.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        tensor : torch.Tensor of shape (n_samples, ...)
            Of the dtype, device and row shape that `fit` saw; float32 on the CPU where
            it saw no tensor, or there was no `fit`. Of sparse data, a COO tensor.

        Raises
        ------
        ValueError
            If `X` has another number of columns, or a value does not fit the dtype.
        """
        dtype = getattr(self, "dtype_", torch.float32)
        device = getattr(self, "device_", torch.device("cpu"))
        array = to_numpy(X, dtype=held_dtype(dtype))
        self._check_width(array)
        if sp.issparse(array):
            entries = array.tocoo()
            indices = torch.from_numpy(np.stack([entries.row, entries.col]))
            values = to_tensor(entries.data, dtype=dtype)
            return torch.sparse_coo_tensor(
                indices.long(), values, entries.shape, check_invariants=True
            ).to(device)
        row_shape = getattr(self, "row_shape_", array.shape[1:])
        return to_tensor(array.reshape(-1, *row_shape), dtype=dtype, device=device)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = False
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = self._preserved_dtypes()
        return tags

    def _preserved_dtypes(self) -> list[str]:
        """Return the dtypes that stay, for scikit-learn: those that `dtype` allows."""
        if self.dtype is None:
            return ["float64", "float32"]
        try:
            asked = np.dtype(self.dtype)
        except TypeError:  # `transform` will say so
            return []
        return [asked.name] if asked.kind in REAL_KINDS and asked.isnative else []

    def _learnt_row_shape(self) -> tuple[int, ...] | None:
        return getattr(self, "row_shape_", None)

    def _column_names(self, input_features: Any) -> Any:
        has_names = input_features is not None or hasattr(self, "feature_names_in_")
        if has_names and self.row_shape_ == (self._n_features_out,):
            return OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        return super()._column_names(input_features)

    def _convert(self, X: Any, *, reset: bool) -> Any:
        """Convert, check and flatten `X`; learn from it where `reset`."""
        check_options(self, _CHECKS)
        value = output_or_rows(X, self.output)
        _check_readable(value)
        rows = _rows_of(value)
        first = value if rows is None else rows[0]
        if isinstance(first, torch.Tensor) or rows is not None:
            array = self._from_tensors(value, rows)
            row_shape = array.shape[1:]
            array = self._validated(self._flattened(array), reset=reset)
        else:
            has_columns = hasattr(value, "columns") or sp.issparse(value)
            plain = value if has_columns else as_array(value)
            checked = self._validated(plain, reset=reset, dtype="numeric")
            array = to_numpy(checked, dtype=self.dtype, copy=self.copy)
            if not sp.issparse(array):
                kept_integers(value, checked, array)
            array = self._densified(array)
            row_shape = array.shape[1:]
            array = self._flattened(array)
        if array.ndim != _MATRIX and self._container() != "default":
            msg = (
                f"`flatten` must be True with set_output(transform="
                f"{self._container()!r}) for rows of shape {array.shape[1:]}: a frame "
                f"has two axes.{_of_batches(value)}"
            )
            raise ValueError(msg)
        if reset:
            self._learn(first, row_shape, array)
        else:
            self._check_width(array, _of_batches(value))
        return array

    def _learn(self, first: Any, row_shape: tuple[int, ...], array: Any) -> None:
        is_tensor = isinstance(first, torch.Tensor) and not first.is_quantized
        self.dtype_ = first.dtype if is_tensor else torch.float32
        self.device_ = first.device if is_tensor else torch.device("cpu")
        self.row_shape_ = row_shape
        self._n_features_out = array.shape[1] if array.ndim == _MATRIX else None

    def _check_width(self, array: Any, hint: str = "") -> None:
        """Compare with what `fit` saw, where there was one."""
        width = getattr(self, "_n_features_out", None)
        if width is not None and array.shape[1:] != (width,):
            msg = (
                f"`X` must give {width} columns as in fit, got rows of shape "
                f"{array.shape[1:]}.{hint}"
            )
            raise ValueError(msg)

    def _from_tensors(self, value: Any, rows: list[Any] | None) -> Any:
        if rows is not None:
            if self.copy is False:
                msg = "`copy` must be True or None for rows in pieces, got False."
                raise ValueError(msg)
            return stack(rows, None if self.dtype is None else np.dtype(self.dtype))
        if value.layout is torch.strided or self.sparse == "keep":
            return to_numpy(value, dtype=self.dtype, copy=self.copy)
        return self._densified(to_numpy(value, dtype=self.dtype))

    def _densified(self, array: Any) -> Any:
        if not sp.issparse(array) or self.sparse == "keep":
            return array
        if self.copy is False:
            msg = "`copy` must be True or None with sparse='dense', got False."
            raise ValueError(msg)
        return array.toarray(order="C")

    def _flattened(self, array: Any) -> Any:
        if not self.flatten or array.ndim <= _MATRIX:
            return array
        return array.reshape(len(array), int(np.prod(array.shape[1:])))

    def _validated(self, value: Any, *, reset: bool, dtype: str | None = None) -> Any:
        """Check `value` with scikit-learn's own helpers, and learn its columns."""
        is_matrix = getattr(value, "ndim", _MATRIX) <= _MATRIX
        if reset and not is_matrix:
            self.__dict__.pop("n_features_in_", None)
        is_asked_complex = dtype is None and value.dtype.kind == "c"
        options: dict[str, Any] = {"ensure_2d": is_matrix}
        if is_asked_complex:  # which scikit-learn would refuse
            options["skip_check_array"] = True
        else:  # an empty batch is none to fit, but fine
            options |= {"dtype": dtype, "ensure_min_samples": int(reset), **_LENIENT}
        if reset or hasattr(self, "dtype_"):
            return validate_data(self, value, reset=reset, **options)
        # Before fit there are no names to compare with, and no reason to warn.
        if is_asked_complex:
            return value
        return check_array(value, estimator=self, input_name="X", **options)


def _check_readable(value: Any) -> None:
    """Refuse what has no values, or would lose its mask in scikit-learn's checks."""
    refuse_kind(value)
    if not isinstance(value, list):  # of which each entry is looked at as a row
        check_there(value)
    if sp.issparse(value):
        check_indices(value)


def _of_batches(value: Any) -> str:
    """Return what to say of a list of what may be batches: each of them is a row."""
    rows = value if isinstance(value, list) else []
    is_batch = any(getattr(row, "ndim", 0) >= _MATRIX for row in rows)
    return " Each entry of a list is a row; `to_numpy` joins batches." * is_batch


def _rows_of(value: Any) -> list[Any] | None:
    """Return the rows of a list, an object array or a Series of tensors."""
    if isinstance(value, (list, np.ndarray)):
        return tensor_rows(value)
    if isinstance(value, torch.Tensor) or sp.issparse(value):
        return None
    if not (hasattr(value, "__array__") and hasattr(value, "__getitem__")):
        return None
    # One row is enough: a large frame of numbers is not copied to look at it.
    if not len(value) or tensor_rows(as_array(value[:1])) is None:
        return None
    return tensor_rows(as_array(value))


_CHECKS = {
    "dtype": check_dtype_name,
    "copy": one_of(True, False, None),
    "flatten": one_of(True, False),
    "output": must_be(SELECTOR_WORDS, is_selector, ValueError),
    "sparse": one_of("keep", "dense"),
}
