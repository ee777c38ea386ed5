"""The picture of embeddings: rows as points in two dimensions."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target

from sklearn_torch_bridge._convert import to_numpy
from sklearn_torch_bridge._rows import is_missing
from sklearn_torch_bridge.inspection._figure_style import (
    COLORS,
    GREY,
    MARKERS,
    Display,
    most_letters,
    short_names,
)
from sklearn_torch_bridge.stats import check_embeddings

__all__ = ["EmbeddingDisplay"]

_AXES = 2
_LONGEST = 24  # letters of a class in the legend
_MOST_POINTS_AT_FULL_SIZE = 300


# Its parameters are the fields, which numpydoc cannot read off the source.
@dataclass(eq=False, repr=False)
class EmbeddingDisplay(Display):  # numpydoc ignore=PR02
    """Show rows as points in two dimensions, coloured by label.

    Each class has a colour and a marker, and numbers have a scale. If there are more
    than seven classes, the six largest are coloured and the others grey.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2)
        Where each row lies.
    labels : ndarray of shape (n_samples,) or None
        Values for the colours: classes, or numbers that are not whole.
    explained : ndarray of shape (2,) or None
        The share of variance along each axis, if the projection computes it.
    projection_name, label_name : str, default="projection" and None
        The names of the projection and of the labels.

    Notes
    -----
    Two axes show a small part of an embedding; the share of variance shows how small.
    Groups that are separate here are separate, but groups that overlap here may be
    separate in all dimensions. To compare groups use a test or a classifier.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_bridge.inspection import EmbeddingDisplay
    >>> Z = np.diag([3.0, 2.0, 1.0])
    >>> EmbeddingDisplay.from_embeddings(Z, ["a", "a", "b"]).points.shape
    (3, 2)
    """

    points: NDArray[Any]
    labels: NDArray[Any] | None = None
    explained: NDArray[Any] | None = None
    _: KW_ONLY
    projection_name: str = "projection"
    label_name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Any,
        y: Any = None,
        *,
        projection: BaseEstimator | None = None,
    ) -> Self:
        """Transform rows by an estimator, and project the result.

        Parameters
        ----------
        estimator : transformer
            A `TorchFeatureExtractor`, or any fitted transformer or Pipeline.
        X : array-like or sequence of length n_samples
            The rows.
        y, projection : array-like and transformer, default=None
            As in `from_embeddings`.

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
            Values for the colours: classes, or numbers that are not whole.
        projection : transformer, default=None
            Cloned and fitted; the first two columns it gives are shown. None is PCA.

        Returns
        -------
        display : EmbeddingDisplay
            Not drawn yet.

        Raises
        ------
        ValueError
            If `Z` has fewer than two columns, or `y` another length or missing values.
        """
        from sklearn.decomposition import PCA  # here, since it takes 0.14 s

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

    def _draw(self, ax: Any) -> None:
        ax = self._keep_axes(ax, width=6.4, height=4.8)
        size = 28 * min(1.0, (_MOST_POINTS_AT_FULL_SIZE / len(self.points)) ** 0.5) + 2
        if self.labels is None:
            ax.scatter(*self.points.T, s=size, color=COLORS[0], linewidths=0)
        elif type_of_target(self.labels).startswith("continuous"):
            style = {"c": self.labels, "cmap": "cividis", "linewidths": 0}
            drawn = ax.scatter(*self.points.T, s=size, **style)
            bar = ax.figure.colorbar(drawn, ax=ax)
            bar.set_label(self.label_name, parse_math=False)
        else:
            self._plot_classes(ax, size)
        ax.set(xlabel=self._axis_name(0), ylabel=self._axis_name(1))
        ax.spines[["top", "right"]].set_visible(False)

    def _plot_classes(self, ax: Any, size: float) -> None:
        letters = min(_LONGEST, most_letters(ax, "y"))
        drawn, names = [], []
        for name, members, color, marker in _styled_classes(self.labels, letters):
            style = {"c": color, "marker": marker, "alpha": 0.8, "linewidths": 0.3}
            points = self.points[members].T
            drawn.append(ax.scatter(*points, s=size, edgecolors="white", **style))
            # matplotlib leaves out what begins with an underscore.
            names.append(f"{' ' * name.startswith('_')}{name} ({members.sum():,})")
        # Beside the points, since it would cover some of them.
        place = {"loc": "upper left", "bbox_to_anchor": (1, 1), "alignment": "left"}
        style = {"frameon": False, "fontsize": "small"}
        legend = ax.legend(drawn, names, title=self.label_name, **place, **style)
        for handle in legend.legend_handles:
            handle.set_sizes([30.0])
        for text in (*legend.get_texts(), legend.get_title()):
            text.set_parse_math(False)

    def _axis_name(self, position: int) -> str:
        name = f"{self.projection_name} {position + 1}"
        if self.explained is None or not np.isfinite(self.explained).all():
            return name  # equal points have no variance
        return f"{name} ({self.explained[position]:.1%} of variance)"


def _check_labels(y: Any, rows: NDArray[Any]) -> NDArray[Any] | None:
    if y is None:
        return None
    values = to_numpy(y) if isinstance(y, torch.Tensor) else np.asarray(y)
    labels: NDArray[Any] = column_or_1d(values)
    check_consistent_length(rows, labels)
    missing = next((row for row, one in enumerate(labels) if is_missing(one)), None)
    if missing is not None:
        msg = (
            f"`y` must have a value for every row, but row {missing} has none. "
            "Leave such rows out, or name them."
        )
        raise ValueError(msg)
    if labels.dtype == object and len({type(label) for label in labels}) > 1:
        labels = np.array([str(label) for label in labels])
    return labels


def _styled_classes(
    labels: Any, letters: int
) -> list[tuple[str, NDArray[Any], str, str]]:
    """Return name, members, colour and marker per class; the smallest share one."""
    classes, counts = np.unique(labels, return_counts=True)
    named = list(classes)
    if len(classes) > len(COLORS):
        largest = counts.argsort(kind="stable")[::-1][: len(COLORS) - 1]
        named = list(classes[np.sort(largest)])
    names = short_names([str(name) for name in named], longest=letters)
    members = [labels == label for label in named]
    styled = list(zip(names, members, COLORS, MARKERS, strict=False))
    rest = ~np.isin(labels, named)
    if rest.any():  # first, so that it is drawn below the others
        others = f"{len(classes) - len(named)} other classes"
        styled.insert(0, (others, rest, GREY, "."))
    return styled
