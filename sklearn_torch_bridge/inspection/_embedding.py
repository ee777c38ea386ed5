"""The cloud of rows in two dimensions."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target

from sklearn_torch_bridge._convert import to_numpy
from sklearn_torch_bridge._rows import is_missing
from sklearn_torch_bridge.inspection._style import (
    COLORS,
    GREY,
    MARKERS,
    axes_for,
    letters_for,
    short_names,
)
from sklearn_torch_bridge.stats import check_embeddings

__all__ = ["EmbeddingDisplay"]

_AXES = 2
_LONGEST = 24  # letters of a class in the legend
_MOST_POINTS_AT_FULL_SIZE = 300


class EmbeddingDisplay:
    """Show rows as points in two dimensions, coloured by label.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2)
        Where each row lies.
    labels : ndarray of shape (n_samples,) or None
        What to colour by: classes, or numbers that are not whole.
    explained : ndarray of shape (2,) or None
        The share of variance along each axis, where the projection knows it.
    projection_name : str, default="projection"
        What made the points.
    label_name : str, default=None
        What the labels are.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on. After `plot`.
    figure_ : matplotlib Figure
        The figure of the axes. After `plot`.

    Notes
    -----
    Two axes show a small part of an embedding; the share of variance says how small.
    Groups that lie apart do lie apart, groups that overlap may not overlap in all the
    dimensions. For a question about groups take a test or a classifier.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_bridge.inspection import EmbeddingDisplay
    >>> Z = np.diag([3.0, 2.0, 1.0])
    >>> EmbeddingDisplay.from_embeddings(Z, ["a", "a", "b"]).points.shape
    (3, 2)
    """

    def __init__(
        self,
        points: NDArray[Any],
        labels: NDArray[Any] | None = None,
        explained: NDArray[Any] | None = None,
        *,
        projection_name: str = "projection",
        label_name: str | None = None,
    ) -> None:
        self.points = points
        self.labels = labels
        self.explained = explained
        self.projection_name = projection_name
        self.label_name = label_name

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Any,
        y: Any = None,
        *,
        projection: BaseEstimator | None = None,
    ) -> Self:
        """Embed rows by a transformer, and project what it gives.

        Parameters
        ----------
        estimator : transformer
            A `TorchFeatureExtractor`, or any fitted transformer or Pipeline.
        X : array-like or sequence of length n_samples
            The rows.
        y : array-like of shape (n_samples,), default=None
            What to colour by.
        projection : transformer, default=None
            Cloned and fitted. None is PCA.

        Returns
        -------
        display : EmbeddingDisplay
            Not drawn yet.
        """
        return cls.from_embeddings(estimator.transform(X), y, projection=projection)

    @classmethod
    def from_embeddings(
        cls, Z: Any, y: Any = None, *, projection: BaseEstimator | None = None
    ) -> Self:
        """Project embeddings to two dimensions.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_features)
            One embedding per row.
        y : array-like of shape (n_samples,), default=None
            What to colour by: classes, or numbers that are not whole.
        projection : transformer, default=None
            Cloned and fitted; the first two columns that it gives are shown. None is
            PCA.

        Returns
        -------
        display : EmbeddingDisplay
            Not drawn yet.

        Raises
        ------
        ValueError
            If there are fewer than two columns, or `y` has another length or a missing
            value.
        """
        rows = check_embeddings("Z", Z, min_rows=2)
        if projection is None and rows.shape[1] < _AXES:
            msg = f"`Z` must have at least 2 columns, got shape {rows.shape}."
            raise ValueError(msg)
        fitted = PCA(_AXES, random_state=0) if projection is None else clone(projection)
        points = np.asarray(fitted.fit_transform(rows))
        if points.ndim != _AXES or points.shape[1] < _AXES:
            msg = (
                f"`projection` must give at least 2 columns, got shape {points.shape}."
            )
            raise ValueError(msg)
        explained = getattr(fitted, "explained_variance_ratio_", None)
        return cls(
            points[:, :_AXES],
            _check_labels(y, rows),
            None if explained is None else explained[:_AXES],
            projection_name=type(fitted).__name__,
            label_name=str(getattr(y, "name", None) or "") or None,
        )

    def plot(self, ax: Any = None) -> Self:
        """Draw the points: a colour and a mark a class, or a scale for numbers.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : EmbeddingDisplay
            Itself, with `ax_` and `figure_`. Of more than seven classes the six largest
            are coloured, the others grey.
        """
        ax = axes_for(ax, width=6.4, height=4.8, caller=type(self).__name__)
        n_samples = len(self.points)
        size = 28 * min(1.0, (_MOST_POINTS_AT_FULL_SIZE / n_samples) ** 0.5) + 2
        if self.labels is None:
            ax.scatter(*self.points.T, s=size, color=COLORS[0], linewidths=0)
        elif type_of_target(self.labels).startswith("continuous"):
            drawn = ax.scatter(
                *self.points.T, s=size, c=self.labels, cmap="cividis", linewidths=0
            )
            bar = ax.figure.colorbar(drawn, ax=ax)
            bar.set_label(self.label_name, parse_math=False)
        else:
            self._plot_classes(ax, size)
        for axis, position in (("x", 0), ("y", 1)):
            ax.set(**{f"{axis}label": self._axis_name(position)})
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_classes(self, ax: Any, size: float) -> None:
        letters = min(_LONGEST, letters_for(ax, "y"))
        drawn, names = [], []
        for name, members, color, marker in _styled_classes(self.labels, letters):
            marks = ax.scatter(
                *self.points[members].T,
                s=size,
                c=color,
                marker=marker,
                alpha=0.8,
                linewidths=0.3,
                edgecolors="white",
            )
            drawn.append(marks)
            # matplotlib leaves out what begins with an underscore.
            names.append(f"{' ' * name.startswith('_')}{name} ({members.sum():,})")
        # Beside the points, which it would cover otherwise.
        legend = ax.legend(
            drawn,
            names,
            title=self.label_name,
            alignment="left",
            loc="upper left",
            bbox_to_anchor=(1, 1),
            frameon=False,
            fontsize="small",
        )
        for handle in legend.legend_handles:
            handle.set_sizes([30.0])
        for text in (*legend.get_texts(), legend.get_title()):
            text.set_parse_math(False)

    def _axis_name(self, position: int) -> str:
        name = f"{self.projection_name} {position + 1}"
        if self.explained is None or not np.isfinite(self.explained).all():
            return name  # points that are all one have no variance
        return f"{name} ({self.explained[position]:.1%} of variance)"


def _check_labels(y: Any, rows: NDArray[Any]) -> NDArray[Any] | None:
    if y is None:
        return None
    labels: NDArray[Any] = column_or_1d(
        to_numpy(y) if isinstance(y, torch.Tensor) else np.asarray(y)
    )
    check_consistent_length(rows, labels)
    missing = [row for row, label in enumerate(labels) if is_missing(label)]
    if missing:
        msg = (
            f"`y` must have a value for every row, but row {missing[0]} has none. "
            "Leave such rows out, or name them."
        )
        raise ValueError(msg)
    if labels.dtype == object and len({type(label) for label in labels}) > 1:
        labels = np.array([str(label) for label in labels])
    return labels


def _styled_classes(
    labels: Any, letters: int
) -> list[tuple[str, NDArray[Any], str, str]]:
    """Give each class its name, members, colour and mark; the smallest share one."""
    classes, counts = np.unique(labels, return_counts=True)
    named = list(classes)
    if len(classes) > len(COLORS):
        largest = counts.argsort(kind="stable")[::-1][: len(COLORS) - 1]
        named = list(classes[np.sort(largest)])
    names = short_names([str(name) for name in named], longest=letters)
    styled = [
        (name, labels == label, color, marker)
        for name, label, color, marker in zip(
            names, named, COLORS, MARKERS, strict=False
        )
    ]
    rest = ~np.isin(labels, named)
    if rest.any():
        n_others = len(classes) - len(named)
        # First, so that it lies below the others.
        styled.insert(0, (f"{n_others} other classes", rest, GREY, "."))
    return styled
