"""Fill the cache for all that a pipeline or a search will ask for, in one pass."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator, clone

from sklearn_torch_bridge._estimators._extraction import Extraction, plan_extraction
from sklearn_torch_bridge._estimators._found_extractors import (
    Finder,
    Found,
    settings_of,
)
from sklearn_torch_bridge._estimators._long_rows import warn_of_cuts

__all__ = ["Precomputed", "precompute"]


@dataclass(frozen=True)
class Precomputed:
    """What `precompute` has done.

    Attributes
    ----------
    n_settings : int
        Different settings of extractors that were found.
    n_passes : int
        Passes over rows that they needed: settings of one model share one.
    n_run : int
        Rows that were sent through a model.
    n_known : int
        Rows that the cache had already.
    """

    n_settings: int
    n_passes: int
    n_run: int
    n_known: int


def precompute(estimator: BaseEstimator, X: Any, *, verbose: int = 0) -> Precomputed:
    """Send each row through the model once, for every setting that will be asked for.

    The extractors of `estimator` are found, with every value that a search gives to
    their parameters. Those that share a model share a forward pass. Rows that are in
    the cache already are skipped; an interrupted call keeps what is done.

    Parameters
    ----------
    estimator : estimator
        A `TorchFeatureExtractor` with a `cache`, or whatever contains one: a
        `Pipeline`, a `ColumnTransformer`, a `FeatureUnion`, a search such as
        `GridSearchCV`, an estimator around these. It is not changed.
    X : array-like or sequence of length n_samples
        What `estimator` will be fitted on.
    verbose : int, default=0
        1 shows a progress bar for each pass.

    Returns
    -------
    done : Precomputed
        How many settings were found, and how many rows were run.

    Raises
    ------
    ValueError
        If there is no extractor, or one without `cache`; if one stands behind a step
        that must be fitted first, so that its rows are not known; or if a search has
        no finite list of settings (a distribution without `random_state`).

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_torch_bridge import TorchFeatureExtractor, precompute
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh())
    >>> X, y = np.arange(20.0).reshape(10, 2), [0, 1] * 5
    >>> grid = {"torchfeatureextractor__layer": ["0", "1"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     extractor = TorchFeatureExtractor(model, cache=f"{folder}/embeddings.db")
    ...     pipe = make_pipeline(extractor, LogisticRegression())
    ...     search = GridSearchCV(pipe, grid, cv=2)
    ...     print(precompute(search, X))  # and the search runs no row
    ...     _ = search.fit(X, y)
    Precomputed(n_settings=2, n_passes=1, n_run=10, n_known=0)
    """
    groups = _grouped(Finder().find(estimator, X))
    if not groups:
        msg = (
            "`estimator` must be or contain a TorchFeatureExtractor, got "
            f"{type(estimator).__name__}."
        )
        raise ValueError(msg)
    n_run = n_known = 0
    heard = []
    for group in groups:
        first, *others = sorted(group, key=lambda one: one.long.strictness)
        joined = first.joined(others)
        run, known = joined.to_cache(verbose=verbose)
        n_run, n_known = n_run + run, n_known + known
        heard.append(joined.long)
    warn_of_cuts(heard)
    return Precomputed(sum(map(len, groups)), len(groups), n_run, n_known)


def _grouped(found: Iterable[Found]) -> list[list[Extraction]]:
    """Return different settings, those together that one forward pass can serve."""
    groups: dict[tuple[Any, ...], dict[int, dict[bytes, Extraction]]] = {}
    alike = {(id(one.X), settings_of(one.extractor)): one for one in found}
    for one in alike.values():
        if one.extractor.cache is None:
            msg = (
                "every TorchFeatureExtractor needs a `cache` for `precompute`, which "
                "fills it; give one a path, such as cache='embeddings.db'."
            )
            raise ValueError(msg)
        extraction = plan_extraction(clone(one.extractor), one.X, reset=True)
        of_rows = groups.setdefault(extraction.plan.shared_settings(), {})
        alike_rows = of_rows.setdefault(id(one.X), {})
        setting = extraction.plan.setting()
        alike_rows[setting] = _milder(alike_rows.get(setting), extraction)
    return [
        list(settings.values())
        for of_rows in groups.values()
        for settings in _of_equal_rows(list(of_rows.values()))
    ]


def _milder(one: Extraction | None, other: Extraction) -> Extraction:
    """Return that of two for the same rows of a cache that refuses fewer of them."""
    if one is None or other.long.strictness < one.long.strictness:
        return other
    return one


def _of_equal_rows(
    groups: list[dict[bytes, Extraction]],
) -> list[dict[bytes, Extraction]]:
    """Join groups whose rows are equal, in whatever objects and order they came."""
    if len(groups) == 1:
        return groups
    joined: dict[frozenset[bytes], dict[bytes, Extraction]] = {}
    for group in groups:
        rows = next(iter(group.values())).distinct_rows()
        same = joined.setdefault(rows, {})
        for setting, extraction in group.items():
            same[setting] = _milder(same.get(setting), extraction)
    return list(joined.values())
