"""Scores by layer, of a search or of one pass over the rows, and their picture."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.model_selection import check_cv, cross_val_score
from sklearn.utils.validation import check_is_fitted

from sklearn_torch_bridge._checks import one_of
from sklearn_torch_bridge._estimators import TorchFeatureExtractor
from sklearn_torch_bridge.inspection._embeddings_by_layer import (
    embeddings_by_layer,
    layer_name,
)
from sklearn_torch_bridge.inspection._figure_style import (
    COLORS,
    GREY,
    Display,
    inches_of,
    most_letters,
    name_ticks,
    points_per_place,
    short_names,
)

__all__ = ["LayerScoreDisplay", "layer_scores"]

_INCHES_A_LAYER, _TALLEST = 0.3, 11.0
_POINTS_A_BAR = 6.0


class LayerScoreDisplay(Display):
    """Show the score of each layer, with the spread over folds.

    Each layer has a line with its folds as dots, and their mean and standard
    deviation; if there is no space for a line per layer, a band shows these two.

    Parameters
    ----------
    layers : list of str
        One name per layer, from the first to the last.
    scores : ndarray of shape (n_layers, n_folds)
        The score of each layer on each fold; greater is better.
    score_name : str, default="score"
        The name of the scores.

    Attributes
    ----------
    mean : ndarray of shape (n_layers,)
        Mean over folds.
    std : ndarray of shape (n_layers,)
        Standard deviation over folds (with ``ddof=0``, as scikit-learn's searches).
    best_layer : str
        The name of the layer with the greatest mean.

    Notes
    -----
    Folds share most of their training rows, so that their spread shows how much the
    score depends on the rows, not whether two layers differ. The score of the best of
    many layers is too high: score it again on rows that were not used to choose it.
    `print` shows the means and their spread as a table.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_bridge.inspection import LayerScoreDisplay
    >>> scores = np.array([[0.6, 0.7], [0.8, 0.9]])
    >>> LayerScoreDisplay(["layer.0", "layer.1"], scores).best_layer
    'layer.1'
    """

    def __init__(
        self, layers: list[str], scores: NDArray[Any], *, score_name: str = "score"
    ) -> None:
        self.layers = layers
        self.scores = scores
        self.score_name = score_name
        self.mean = np.mean(scores, axis=1)
        self.std = np.std(scores, axis=1)
        known = np.where(np.isnan(self.mean), -np.inf, self.mean)
        self.best_layer = layers[int(known.argmax())]

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        param: str | None = None,
        metric: str | None = None,
    ) -> Self:
        """Read the scores of a fitted search over layers.

        Parameters
        ----------
        estimator : GridSearchCV or similar
            Fitted, with `layer` of an extractor among its parameters. If several
            candidates have the same layer, the best one counts.
        param : str, default=None
            Name of the parameter, such as ``"torchfeatureextractor__layer"``. None
            uses the one that ends in ``layer``.
        metric : str, default=None
            Which one of several metrics. None uses that of ``refit``.

        Returns
        -------
        display : LayerScoreDisplay
            Not drawn yet.

        Raises
        ------
        ValueError
            If there is no such parameter, or several, or no such metric.
        """
        check_is_fitted(estimator, "cv_results_")
        results = estimator.cv_results_
        refit = getattr(estimator, "refit", None)
        metric = metric or (refit if isinstance(refit, str) else "score")
        prefix = "mean_test_"
        known = [k.removeprefix(prefix) for k in results if k.startswith(prefix)]
        one_of(*known)("metric", metric)
        best = _best_candidates(results, _layer_param(results, param), metric)
        folds = [results[f"split{k}_test_{metric}"] for k in range(estimator.n_splits_)]
        scoring = getattr(estimator, "scoring", None)
        named = metric if metric != "score" or not isinstance(scoring, str) else scoring
        scores = np.stack(folds, axis=1)[list(best.values())]
        return cls(list(best), scores, score_name=named)

    @classmethod
    def from_embeddings(
        cls,
        embeddings: Mapping[str, Any],
        y: Any,
        estimator: BaseEstimator,
        *,
        cv: Any = 5,
        scoring: Any = None,
    ) -> Self:
        """Cross-validate an estimator on the embeddings of each layer.

        Parameters
        ----------
        embeddings : mapping of str to array-like of shape (n_samples, n_features)
            The embeddings of the same rows by the name of the layer.
        y : array-like of shape (n_samples,)
            What to predict.
        estimator : scikit-learn estimator
            Cloned for each layer and fold.
        cv : int, splitter or iterable, default=5
            The folds, the same for every layer, as `cross_val_score` takes them.
        scoring : str or callable, default=None
            The score, as `sklearn.model_selection.cross_val_score` takes it.

        Returns
        -------
        display : LayerScoreDisplay
            Not drawn yet.
        """
        if not embeddings:
            msg = "`embeddings` must name at least one layer, got none."
            raise ValueError(msg)
        first = next(iter(embeddings.values()))
        folds = check_cv(cv, y, classifier=is_classifier(estimator))
        splits = list(folds.split(first, y))  # once, also where they are drawn
        scores = [
            cross_val_score(clone(estimator), Z, y, cv=splits, scoring=scoring)
            for Z in embeddings.values()
        ]
        named = scoring if isinstance(scoring, str) else "score"
        return cls(list(embeddings), np.array(scores), score_name=named)

    def __str__(self) -> str:
        wide, digits = max(map(len, self.layers)), _decimals(self.std)
        return "\n".join(
            f"{layer:<{wide}}  {mean:.{digits}f} ± {std:.{digits}f}"
            + "  (best)" * (layer == self.best_layer)
            for layer, mean, std in zip(self.layers, self.mean, self.std, strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as columns, for ``pandas.DataFrame`` or any table.

        Returns
        -------
        table : dict of str to list
            ``layer``, ``mean``, ``std``, and one ``split<i>`` per fold.
        """
        folds = {f"split{k}": fold.tolist() for k, fold in enumerate(self.scores.T)}
        columns = {"mean": self.mean.tolist(), "std": self.std.tolist()}
        return {"layer": list(self.layers), **columns, **folds}

    def _draw(self, ax: Any) -> None:
        n_layers = len(self.layers)
        height = min(_TALLEST, 1.3 + _INCHES_A_LAYER * n_layers)
        width = 5.0 + inches_of(self.layers)
        ax = self._keep_axes(ax, width=width, height=height)
        best = self.layers.index(self.best_layer)
        name = short_names(self.layers, most_letters(ax, "y"))[best]
        title = f"best: {name}, {self.mean[best]:.3g}"
        ax.set_title(title, loc="left", fontsize=10, parse_math=False)
        ax.set_xlabel(f"{self.score_name}\n(mean ± std; dots: folds)")
        name_ticks(ax, "y", self.layers)  # in the space that the other texts leave
        points = points_per_place(ax, "y", n_layers)
        if points >= _POINTS_A_BAR:
            self._plot_bars(ax, mark=min(7.0, 0.6 * points))
        else:
            self._plot_band(ax)
        ax.set_ylim(n_layers - 0.5, -0.5)  # the first layer on top
        ax.grid(axis="x", alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)

    def _plot_bars(self, ax: Any, mark: float) -> None:
        """Draw a bar per layer, and its folds below it, where the bar hides none."""
        places = np.arange(len(self.layers))
        for fold in self.scores.T:
            ax.plot(fold, places + 0.25, ".", color=GREY, markersize=mark, zorder=1)
        ax.plot(self.mean, places, "-", color=COLORS[0], linewidth=1, zorder=2)
        best = places == self.layers.index(self.best_layer)
        for chosen, fill in ((best, COLORS[0]), (~best, "white")):
            style = {"color": COLORS[0], "markerfacecolor": fill, "markersize": mark}
            at = self.mean[chosen], places[chosen]
            bars = {"xerr": self.std[chosen], "capsize": mark / 2, "zorder": 3}
            ax.errorbar(*at, fmt="o", **bars, **style)

    def _plot_band(self, ax: Any) -> None:
        """Draw one band for all layers, because bars would overlap."""
        places, best = np.arange(len(self.layers)), self.layers.index(self.best_layer)
        sides = self.mean - self.std, self.mean + self.std
        ax.fill_betweenx(places, *sides, color=COLORS[0], alpha=0.25, linewidth=0)
        ax.plot(self.mean, places, "-", color=COLORS[0], linewidth=1)
        ax.plot(self.mean[best], best, "o", color=COLORS[0])
        ax.set_xlabel(f"{self.score_name}\n(mean ± std)")


def layer_scores(
    extractor: TorchFeatureExtractor,
    X: Any,
    y: Any,
    estimator: BaseEstimator,
    *,
    cv: Any = 5,
    scoring: Any = None,
) -> LayerScoreDisplay:
    """Score every layer of a model in one pass over the rows.

    Parameters
    ----------
    extractor : TorchFeatureExtractor
        Its `layer` selects the layers: a list of names, or a glob such as
        ``"encoder.layer.*"``. It is cloned.
    X : array-like or sequence of length n_samples
        The rows.
    y : array-like of shape (n_samples,)
        What to predict.
    estimator : scikit-learn estimator
        Predicts `y` from the embeddings of one layer.
    cv, scoring : int, splitter or iterable, default=5, and str or callable
        As in `LayerScoreDisplay.from_embeddings`.

    Returns
    -------
    display : LayerScoreDisplay
        With the scores as a table (`to_dict`) and as a picture (`plot`).

    Notes
    -----
    Every row goes through the model once, for all layers and folds, and the embeddings
    of all layers are in memory together. An extractor learns nothing from rows, so the
    scores are those of a search over `layer` (see `LayerScoreDisplay.from_estimator`).

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_torch_bridge import TorchFeatureExtractor
    >>> from sklearn_torch_bridge.inspection import layer_scores
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 4)).astype("float32")
    >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Softmax(dim=1))
    >>> extractor = TorchFeatureExtractor(model, layer="*")
    >>> found = layer_scores(extractor, X, X[:, 0] > 0, LogisticRegression())
    >>> found.best_layer
    '0'
    """
    return LayerScoreDisplay.from_embeddings(
        embeddings_by_layer(extractor, X), y, estimator, cv=cv, scoring=scoring
    )


def _decimals(std: NDArray[Any]) -> int:
    """Compute how many decimals show two digits of the largest spread.

    >>> _decimals(np.array([0.03, 0.001])), _decimals(np.array([250.0]))
    (3, 0)
    """
    largest = np.max(std, where=np.isfinite(std) & (std > 0), initial=0.0)
    return 3 if largest == 0 else max(0, 1 - int(np.floor(np.log10(largest))))


def _layer_param(results: Mapping[str, Any], param: str | None) -> str:
    """Return the column of the results with the parameter that names the layer."""
    searched = [key for key in results if key.startswith("param_")]
    found = [key for key in searched if key == f"param_{param}"]
    if param is None:
        ends = ("layer", "param_layer")
        found = [key for key in searched if key.split("__")[-1] in ends]
    if len(found) == 1:
        return found[0]
    known = ", ".join(repr(key.removeprefix("param_")) for key in searched)
    what = "name one parameter of the search" if found or param else "be given"
    msg = f"`param` must {what}, got {param!r}. It searched over {known}."
    raise ValueError(msg)


def _best_candidates(
    results: Mapping[str, Any], param: str, metric: str
) -> dict[str, int]:
    """Return the best candidate of each layer, in the last round of a halving."""
    means = np.nan_to_num(results[f"mean_test_{metric}"], nan=-np.inf)
    rounds = results.get("iter", np.zeros(len(means), dtype=int))
    best: dict[str, int] = {}
    for candidate, layer in enumerate(results[param]):
        name = layer_name(layer)
        held = best.setdefault(name, candidate)
        if (rounds[candidate], means[candidate]) > (rounds[held], means[held]):
            best[name] = candidate
    return best
