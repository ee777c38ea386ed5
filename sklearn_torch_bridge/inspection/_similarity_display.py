"""How alike layers or models are, as a matrix."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sklearn_torch_bridge._estimators import TorchFeatureExtractor
from sklearn_torch_bridge.inspection._by_layer import embeddings_by_layer
from sklearn_torch_bridge.inspection._style import axes_for, inches_of, name_ticks, room
from sklearn_torch_bridge.stats import cka

__all__ = ["SimilarityDisplay"]

_SMALLEST_SIDE, _LARGEST_SIDE = 2.5, 9.0  # of the matrix, in inches
_POINTS_A_NUMBER = 20.0
_DARK = 0.5

Measure = Callable[[Any, Any], Any]


class SimilarityDisplay:
    """Show how alike embeddings of the same rows are, each with each.

    Parameters
    ----------
    similarity : ndarray of shape (n_rows, n_columns)
        One value a pair.
    row_names : list of str
        Of the embeddings along the rows.
    column_names : list of str
        Of the embeddings along the columns.
    measure_name : str, default="similarity"
        What the values are.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on. After `plot`.
    figure_ : matplotlib Figure
        The figure of the axes. After `plot`.

    See Also
    --------
    sklearn_torch_bridge.stats.cka : The default measure, and when not to trust it.

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

    def __init__(
        self,
        similarity: NDArray[Any],
        row_names: list[str],
        column_names: list[str],
        *,
        measure_name: str = "similarity",
    ) -> None:
        self.similarity = similarity
        self.row_names = row_names
        self.column_names = column_names
        self.measure_name = measure_name

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
            Its `layer` says which layers. Every row goes through the model once.
        X : array-like or sequence of length n_samples
            The rows.
        other : TorchFeatureExtractor, default=None
            Whose layers make the columns. None compares the layers of `estimator`.
        measure : callable, default=sklearn_torch_bridge.stats.cka
            Takes two embeddings of the same rows, returns a number; symmetric.
        measure_name : str, default=None
            What to call it. None takes the name of the function.

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
            What to call it. None takes the name of the function.

        Returns
        -------
        display : SimilarityDisplay
            Not drawn yet.

        Raises
        ------
        ValueError
            If there is no embedding, or what `measure` raises.
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
        named = measure_name or _name(measure)
        return cls(similarity, list(embeddings), list(columns), measure_name=named)

    def plot(self, ax: Any = None) -> Self:
        """Draw the matrix, with numbers where there is room.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : SimilarityDisplay
            Itself, with `ax_` and `figure_`.
        """
        n_rows, n_columns = self.similarity.shape
        cell = min(0.5, _LARGEST_SIDE / max(n_rows, n_columns))
        width = max(_SMALLEST_SIDE, cell * n_columns) + inches_of(self.row_names)
        width = width / 0.85 + 0.7  # the bar of colours takes 15 %, and its name
        height = max(_SMALLEST_SIDE, cell * n_rows) + inches_of(self.column_names)
        ax = axes_for(ax, width=width, height=height, caller=type(self).__name__)
        # Lightness alone orders this map, so that it can be read in grey.
        lowest = min(0.0, float(np.nanmin(self.similarity)))
        highest = max(1.0, float(np.nanmax(self.similarity)))
        drawn = ax.imshow(
            self.similarity,
            vmin=lowest,
            vmax=highest,
            cmap="cividis",
            aspect="auto",  # squares would leave no room for names in small axes
        )
        ax.figure.colorbar(drawn, ax=ax, label=self.measure_name)
        name_ticks(ax, "x", self.column_names)
        name_ticks(ax, "y", self.row_names)
        if room(ax, "x", n_columns) >= _POINTS_A_NUMBER:
            middle = lowest + _DARK * (highest - lowest)
            for (i, j), value in np.ndenumerate(self.similarity):
                color = "white" if value < middle else "black"
                text = f"{value:.2f}"
                ax.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _name(measure: Measure) -> str:
    if measure is cka:
        return "linear CKA"
    name = getattr(getattr(measure, "func", measure), "__name__", "similarity")
    return str(name)
