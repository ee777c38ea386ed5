"""Names of the columns that the estimators return."""

from typing import Any

from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.exceptions import NotFittedError

__all__ = ["NamedColumns"]

# Where a message has these words, `set_output` numbers the columns of a result, instead
# of losing what was computed.
_NO_NAMES = "does not provide get_feature_names_out"


class NamedColumns(ClassNamePrefixFeaturesOutMixin):
    """A transformer whose columns have names once `fit` knows how many there are."""

    _for_columns: str  # what to do about rows of several axes

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Name the columns of what `transform` returns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns that go in. They are checked against those seen in
            `fit`, and given to the columns that a `TensorToArray` passes one to one.

        Returns
        -------
        feature_names_out : ndarray of str objects
            One name a column: the class in lower case and a number, such as
            ``torchfeatureextractor0``; with several layers ``<layer>_<i>``.

        Raises
        ------
        NotFittedError
            Before `fit`, which learns how many columns there are, and where settings
            that decide it have changed since.
        AttributeError
            If the rows have several axes.
        """
        if self._learnt_is_old():
            msg = (
                f"The settings of this {type(self).__name__} have changed since it was "
                f"fitted, so it {_NO_NAMES}. Call 'fit' again."
            )
            raise NotFittedError(msg)
        if getattr(self, "_n_features_out", None) is not None:
            return self._column_names(input_features)
        name, shape = type(self).__name__, self._learnt_row_shape()
        if shape is None:
            msg = f"This {name} is not fitted yet, so it {_NO_NAMES}. Call 'fit' first."
            raise NotFittedError(msg)
        rows = f"rows of shape {shape}"
        if len(shape) > 1 and not shape[0]:  # of any length
            rows = f"rows that differ in length, of shape (n_tokens, {shape[-1]}) each"
        msg = f"{name} {_NO_NAMES} for {rows}. {self._for_columns}"
        raise AttributeError(msg)

    def _learnt_is_old(self) -> bool:
        """Return whether what `fit` learnt holds no more."""
        return False

    def _learnt_row_shape(self) -> tuple[int, ...] | None:
        """Return the shape of a row, where `fit` has seen one."""
        raise NotImplementedError

    def _column_names(self, input_features: Any) -> Any:
        """Name the columns of rows of one axis."""
        return super().get_feature_names_out(input_features)
