"""The picture of drift: which features differ between two sets of rows."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from sklearn_torch_bridge._checks import must_be
from sklearn_torch_bridge.inspection._figure_style import (
    COLORS,
    Display,
    inches_of,
    name_ticks,
)
from sklearn_torch_bridge.stats import KSDriftResult, ks_drift

__all__ = ["DriftDisplay"]

_INCHES_A_FEATURE, _TALLEST = 0.26, 11.0
_TINY = 1e-3  # p-values below are written with an exponent


class DriftDisplay(Display):
    """Show which features differ between two sets of rows, with p-values.

    Parameters
    ----------
    result : KSDriftResult
        Of `sklearn_torch_bridge.stats.ks_drift`, whose notes say when not to use it.
    feature_names : list of str
        One name per feature.
    level : float, default=0.05
        The adjusted p-value up to which a feature counts as drifted.

    Attributes
    ----------
    drifted : ndarray of bool of shape (n_features,)
        Whether each feature's adjusted p-value is at most `level`.
    order : ndarray of int of shape (n_features,)
        Features from the largest statistic to the smallest.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_bridge.inspection import DriftDisplay
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(90, 3)), rng.normal(size=(90, 3))
    >>> Y[:, 1] += 1
    >>> DriftDisplay.from_embeddings(X, Y).drifted
    array([False,  True, False])
    """

    def __init__(
        self, result: KSDriftResult, feature_names: list[str], *, level: float = 0.05
    ) -> None:
        self.result = result
        self.feature_names = feature_names
        self.level = level
        self.drifted = result.pvalue <= level
        self.order = np.argsort(-result.statistic, kind="stable")

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Any,
        Y: Any,
        *,
        method: str | None = "bh",
        level: float = 0.05,
    ) -> Self:
        """Transform two sets of rows by an estimator, and compare the results.

        Parameters
        ----------
        estimator : transformer
            A `TorchFeatureExtractor`, or any fitted transformer or Pipeline.
        X, Y : array-like or sequence of length n_samples_X and n_samples_Y
            The rows of both sets.
        method, level : {"bh", "by"} or None, and float
            As in `from_embeddings`.

        Returns
        -------
        display : DriftDisplay
            Not drawn yet.
        """
        sides = estimator.transform(X), estimator.transform(Y)
        try:
            names = estimator.get_feature_names_out()
        except (AttributeError, NotFittedError):
            names = None
        return cls.from_embeddings(
            *sides, method=method, level=level, feature_names=names
        )

    @classmethod
    def from_embeddings(
        cls,
        X: Any,
        Y: Any,
        *,
        method: str | None = "bh",
        level: float = 0.05,
        feature_names: Sequence[str] | None = None,
    ) -> Self:
        """Compare two sets of embeddings feature by feature.

        Parameters
        ----------
        X, Y : array-like of shape (n_samples_X or n_samples_Y, n_features)
            Both sets, over the same columns.
        method : {"bh", "by"} or None, default="bh"
            How p-values are adjusted.
        level : float, default=0.05
            The adjusted p-value up to which a feature counts as drifted.
        feature_names : sequence of str, default=None
            One name per feature. None uses those of a frame, or numbers.

        Returns
        -------
        display : DriftDisplay
            Not drawn yet.

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1, the number of names is not that of
            features, or for the reasons of `ks_drift`.
        """
        must_be("between 0 and 1", lambda p: 0 < p < 1, ValueError)("level", level)
        result = ks_drift(X, Y, method=method)
        n_features = len(result.statistic)
        given = getattr(X, "columns", None) if feature_names is None else feature_names
        names = [str(name) for name in (range(n_features) if given is None else given)]
        if len(names) != n_features:
            msg = (
                f"`feature_names` must name each of the {n_features} features, got "
                f"{len(names)} names."
            )
            raise ValueError(msg)
        return cls(result, names, level=level)

    def plot(self, ax: Any = None, *, max_features: int = 20) -> Self:
        """Draw the features with the largest statistics; filled if they drifted.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None creates a figure.
        max_features : int, default=20
            How many features to draw.

        Returns
        -------
        display : DriftDisplay
            Itself, with `ax_` and `figure_`.
        """
        shown = self.order[:max_features]
        height = min(_TALLEST, 1.5 + _INCHES_A_FEATURE * len(shown))
        names = [self.feature_names[feature] for feature in shown]
        width = 5.5 + inches_of(names)
        ax = self._keep_axes(ax, width=width, height=height)
        places, statistic = np.arange(len(shown)), self.result.statistic[shown]
        ax.hlines(places, 0, statistic, color=COLORS[0], linewidth=1)
        drifted = self.drifted[shown]
        for chosen, fill in ((drifted, COLORS[0]), (~drifted, "white")):
            marks = {"color": COLORS[0], "markerfacecolor": fill}
            ax.plot(statistic[chosen], places[chosen], "o", **marks)
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.set_xlim(0, max(0.05, 1.08 * float(statistic.max(initial=0.0))))
        ax.set_xlabel("Kolmogorov-Smirnov statistic")
        ax.set_title(self._summary(len(shown)), loc="left", fontsize=10)
        name_ticks(ax, "y", names)  # in the space that the other texts leave
        self._name_pvalues(ax, shown)
        ax.spines[["top", "right"]].set_visible(False)
        return self

    def _name_pvalues(self, ax: Any, shown: NDArray[Any]) -> None:
        """Write the p-value of each feature on the right side."""
        size = ax.get_yticklabels()[0].get_fontsize() if len(shown) else None
        side = ax.secondary_yaxis("right")
        ticks = ax.get_yticks()
        named = self.result.pvalue[shown[ticks.astype(int)]]
        pvalues = [f"{p:.3f}" if p >= _TINY else f"{p:.0e}" for p in named]
        side.set_yticks(ticks, pvalues, fontsize=size)
        side.tick_params(length=0)
        side.spines["right"].set_visible(False)
        side.set_ylabel("adjusted p-value" if self.result.method else "p-value")

    def _summary(self, n_shown: int) -> str:
        n_features = len(self.drifted)
        shown = f"the {n_shown} farthest; " if n_shown < n_features else ""
        return (
            f"{self.drifted.sum():,} of {n_features:,} features drifted\n"
            f"({shown}filled: p ≤ {self.level:g})"
        )
