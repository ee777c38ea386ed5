"""The picture of similarity: how alike layers or models are, as a matrix."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._estimators import TorchFeatureExtractor
from sklearn_torch_bridge.inspection._embeddings_by_layer import embeddings_by_layer
from sklearn_torch_bridge.inspection._figure_style import (
    Display,
    inches_of,
    name_ticks,
    points_per_place,
)
from sklearn_torch_bridge.stats import cka

__all__ = ["SimilarityDisplay"]

_SMALLEST_SIDE, _LARGEST_SIDE = 2.5, 9.0  # of the matrix, in inches
_POINTS_A_NUMBER = 20.0
_DARK = 0.5

Measure = Callable[[Any, Any], Any]


# Its parameters are the fields, which numpydoc cannot read off the source.
@dataclass(eq=False, repr=False)
class SimilarityDisplay(Display):  # numpydoc ignore=PR02
    """Show how alike embeddings of the same rows are, pair by pair.

    The matrix has numbers if there is space for them. The notes of the default measure,
    `sklearn_torch_bridge.stats.cka`, say when not to trust it.

    Parameters
    ----------
    similarity : ndarray of shape (n_rows, n_columns)
        One value per pair.
    row_names, column_names : list of str
        The names of the embeddings along the rows, and along the columns.
    measure_name : str, default="similarity"
        The name of the values.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_bridge.inspection import SimilarityDisplay
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [5.0, 3.0]])
    >>> embeddings = {"layer.0": X, "layer.1": X**2}
    >>> SimilarityDisplay.from_embeddings(embeddings).similarity.round(2)
    array([[1.  , 0.94],
           [0.94, 1.  ]])
    """

    similarity: NDArray[Any]
    row_names: list[str]
    column_names: list[str]
    _: KW_ONLY
    measure_name: str = "similarity"

    @classmethod
    def from_estimator(
        cls,
        estimator: TorchFeatureExtractor,
        X: Any,
        *,
        other: TorchFeatureExtractor | None = None,
        measure: Measure = cka,
        measure_name: str | None = None,
    ) -> Self:
        """Compare the layers of an extractor, or of two, on the same rows.

        Parameters
        ----------
        estimator : TorchFeatureExtractor
            Its `layer` selects the layers. Every row goes through the model once.
        X : array-like or sequence of length n_samples
            The rows.
        other : TorchFeatureExtractor, default=None
            Its layers are the columns. None compares those of `estimator`.
        measure, measure_name : callable, default=cka, and str, default=None
            As in `from_embeddings`.

        Returns
        -------
        display : SimilarityDisplay
            Not drawn yet.
        """
        return cls.from_embeddings(
            embeddings_by_layer(estimator, X),
            None if other is None else embeddings_by_layer(other, X),
            measure=measure,
            measure_name=measure_name,
        )

    @classmethod
    def from_embeddings(
        cls,
        embeddings: Mapping[str, Any],
        others: Mapping[str, Any] | None = None,
        *,
        measure: Measure = cka,
        measure_name: str | None = None,
    ) -> Self:
        """Compare embeddings of the same rows.

        Parameters
        ----------
        embeddings : mapping of str to array-like of shape (n_samples, n_features)
            Names to embeddings of the same rows, in the same order; widths may differ.
        others : mapping of str to array-like, default=None
            Those along the columns. None compares `embeddings` with each other.
        measure : callable, default=sklearn_torch_bridge.stats.cka
            Takes two embeddings of the same rows, returns a number; symmetric.
        measure_name : str, default=None
            The name of the measure. None uses that of the function.

        Returns
        -------
        display : SimilarityDisplay
            Not drawn yet.

        Raises
        ------
        ValueError
            If there is no embedding, or for the reasons of `measure`.
        """
        columns = embeddings if others is None else others
        if not embeddings or not columns:
            msg = (
                "`embeddings` and `others` must name at least one embedding, got none."
            )
            raise ValueError(msg)
        similarity = np.empty((len(embeddings), len(columns)))
        for i, one in enumerate(embeddings.values()):
            for j, another in enumerate(columns.values()):
                if others is None and j < i:
                    similarity[i, j] = similarity[j, i]
                else:
                    similarity[i, j] = float(measure(one, another))
        name = getattr(getattr(measure, "func", measure), "__name__", "similarity")
        named = measure_name or ("linear CKA" if measure is cka else str(name))
        return cls(similarity, list(embeddings), list(columns), measure_name=named)

    def _draw(self, ax: Any) -> None:
        n_rows, n_columns = self.similarity.shape
        cell = min(0.5, _LARGEST_SIDE / max(n_rows, n_columns))
        width = max(_SMALLEST_SIDE, cell * n_columns) + inches_of(self.row_names)
        width = width / 0.85 + 0.7  # for the colour bar, 15 %, and its label
        height = max(_SMALLEST_SIDE, cell * n_rows) + inches_of(self.column_names)
        ax = self._keep_axes(ax, width=width, height=height)
        # This colour map is ordered by lightness, so that it can be read in grey.
        lowest = min(0.0, float(np.nanmin(self.similarity)))
        highest = max(1.0, float(np.nanmax(self.similarity)))
        # Not of squares, which would leave no space for names in small axes.
        style = {"vmin": lowest, "vmax": highest, "cmap": "cividis", "aspect": "auto"}
        drawn = ax.imshow(self.similarity, **style)
        ax.figure.colorbar(drawn, ax=ax, label=self.measure_name)
        name_ticks(ax, "x", self.column_names)
        name_ticks(ax, "y", self.row_names)
        if points_per_place(ax, "x", n_columns) >= _POINTS_A_NUMBER:
            middle = lowest + _DARK * (highest - lowest)
            for (i, j), value in np.ndenumerate(self.similarity):
                style = {"color": "white" if value < middle else "black", "fontsize": 8}
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", **style)
