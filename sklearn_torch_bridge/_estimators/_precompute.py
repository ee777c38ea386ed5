"""Fill the cache for all that a pipeline or a search will ask for, in one pass."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, get_tags

from sklearn_torch_bridge._estimators._extraction import Extraction, plan_extraction
from sklearn_torch_bridge._estimators._torch_feature_extractor import (
    TorchFeatureExtractor,
)

__all__ = ["Precomputed", "precompute"]

_INNER = ("estimator", "base_estimator", "regressor", "classifier", "transformer")

Found = Iterator[tuple[TorchFeatureExtractor, Any]]


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
    groups = _grouped(_find(estimator, X, behind=None))
    if not groups:
        msg = (
            "`estimator` must be or contain a TorchFeatureExtractor, got "
            f"{type(estimator).__name__}."
        )
        raise ValueError(msg)
    n_run = n_known = 0
    for first, *others in groups:
        run, known = first.joined(others).to_cache(verbose=verbose)
        n_run, n_known = n_run + run, n_known + known
    return Precomputed(sum(map(len, groups)), len(groups), n_run, n_known)


def _grouped(found: Found) -> list[list[Extraction]]:
    """Return different settings, those together that one forward pass can serve."""
    groups: dict[tuple[Any, ...], dict[bytes, Extraction]] = {}
    alike = {(id(X), _asked_of(extractor)): (extractor, X) for extractor, X in found}
    for extractor, X in alike.values():
        if extractor.cache is None:
            msg = (
                "every TorchFeatureExtractor needs a `cache` for `precompute`, which "
                "fills it; give one a path, such as cache='embeddings.db'."
            )
            raise ValueError(msg)
        extraction = plan_extraction(clone(extractor), X, reset=True)
        key = (id(X), *extraction.plan.shared_settings())
        groups.setdefault(key, {})[extraction.plan.setting()] = extraction
    return [list(settings.values()) for settings in groups.values()]


def _asked_of(extractor: TorchFeatureExtractor) -> tuple[Any, ...]:
    """Return a quick key of the parameters: a fingerprint has to read all weights."""
    return tuple(
        repr(value) if isinstance(value, (str, int, float, list, tuple)) else id(value)
        for _, value in sorted(extractor.get_params(deep=False).items())
    )


def _find(estimator: Any, X: Any, *, behind: str | None) -> Found:
    """Yield every extractor inside `estimator` with the rows that it will get."""
    from sklearn.compose import ColumnTransformer  # slow: it brings linear models

    if isinstance(estimator, TorchFeatureExtractor):
        if behind is not None:
            msg = (
                f"a TorchFeatureExtractor stands behind {behind}, which must be "
                "fitted first: its rows are not known before. Put the extractor "
                "first, or call `precompute` on it with the rows that it will get."
            )
            raise ValueError(msg)
        yield estimator, X
    elif isinstance(estimator, Pipeline):
        yield from _find_in_pipeline(estimator, X, behind)
    elif isinstance(estimator, ColumnTransformer):
        for name, part, columns in estimator.transformers:
            if _has_extractor(part):
                yield from _find(part, _columns(X, columns, name), behind=behind)
    elif hasattr(estimator, "param_grid") or hasattr(estimator, "param_distributions"):
        for setting in _settings_of(estimator):
            candidate = clone(estimator.estimator).set_params(**setting)
            yield from _find(candidate, X, behind=behind)
    else:
        for part in _parts(estimator):
            yield from _find(part, X, behind=behind)


def _find_in_pipeline(pipeline: Pipeline, X: Any, behind: str | None) -> Found:
    rows = X
    steps = [step for step in pipeline.steps if step[1] not in (None, "passthrough")]
    for place, (name, step) in enumerate(steps):
        yield from _find(step, rows, behind=behind)
        later = any(_has_extractor(other) for _, other in steps[place + 1 :])
        if not later or behind is not None:
            continue
        if get_tags(step).requires_fit:
            behind = f"the step {name!r}"
        else:
            rows = clone(step).fit_transform(rows)


def _has_extractor(estimator: Any) -> bool:
    from sklearn.compose import ColumnTransformer

    if isinstance(estimator, TorchFeatureExtractor):
        return True
    if isinstance(estimator, ColumnTransformer):
        return any(_has_extractor(part) for _, part, _ in estimator.transformers)
    return any(_has_extractor(part) for part in _parts(estimator))


def _parts(estimator: Any) -> list[Any]:
    """List the estimators right inside another that get its rows."""
    if not isinstance(estimator, BaseEstimator):
        return []
    named = [
        *getattr(estimator, "steps", ()),
        *getattr(estimator, "transformer_list", ()),
        *(getattr(estimator, "estimators", None) or ()),
    ]
    parts = [part[1] if isinstance(part, tuple) else part for part in named]
    parts += [getattr(estimator, name, None) for name in _INNER]
    return [part for part in parts if isinstance(part, BaseEstimator)]


def _columns(X: Any, columns: Any, name: str) -> Any:
    """Return the columns of a ColumnTransformer's part, as it selects them."""
    chosen = columns(X) if callable(columns) else columns
    try:
        return _safe_indexing(X, chosen, axis=1)
    except (KeyError, ValueError, IndexError) as error:
        msg = f"`X` must have the columns {chosen!r} that {name!r} takes."
        raise ValueError(msg) from error


def _settings_of(search: Any) -> Any:
    """List the settings that a search will try."""
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    if hasattr(search, "param_grid"):
        return ParameterGrid(search.param_grid)
    given, chance = search.param_distributions, search.random_state
    if chance is None:
        spaces = [given] if isinstance(given, Mapping) else given
        if any(hasattr(v, "rvs") for space in spaces for v in space.values()):
            msg = (
                "a search over distributions has no finite list of settings: give it "
                "a `random_state`, or lists."
            )
            raise ValueError(msg)
        return ParameterGrid([{k: list(v) for k, v in one.items()} for one in spaces])
    if getattr(search, "n_iter", None) is None:
        msg = (
            f"the settings that {type(search).__name__} will try cannot be listed: "
            "call `precompute` on its extractors."
        )
        raise ValueError(msg)
    # A copy: a generator that was given must not be drawn from here.
    chance = copy.deepcopy(chance)
    return ParameterSampler(given, search.n_iter, random_state=chance)
