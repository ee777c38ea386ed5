"""Find extractors inside other estimators, with the rows that each will get."""

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import _safe_indexing, check_array, get_tags

from sklearn_torch_bridge._estimators._torch_feature_extractor import (
    TorchFeatureExtractor,
)

__all__ = ["Finder", "Found", "settings_of"]

_INNER = ("estimator", "base_estimator", "regressor", "classifier", "transformer")
_UNUSED = (None, "passthrough", "drop")


class Found(NamedTuple):
    """An extractor, and the rows that it will get."""

    extractor: TorchFeatureExtractor
    X: Any


class Finder:
    """Finds extractors; what parts of an estimator make of rows is made once.

    The candidates of a search are clones, most of which select the same columns and
    take the same steps before an extractor.
    """

    def __init__(self) -> None:
        # With the rows and what was asked of them, whose ids are in the key.
        self._made: dict[Hashable, tuple[Any, Any, Any]] = {}

    def find(
        self, estimator: Any, X: Any, *, behind: str | None = None
    ) -> Iterator[Found]:
        """Yield every extractor inside `estimator` with the rows that it will get."""
        if isinstance(estimator, TorchFeatureExtractor):
            if behind is not None:
                raise _unknown_rows(behind)
            yield Found(estimator, X)
        elif isinstance(estimator, Pipeline):
            yield from self._in_pipeline(estimator, X, behind)
        elif _is_column_transformer(estimator):
            for name, part, columns in _with_remainder(estimator, X):
                if _has_extractor(part):
                    rows = self._columns(X, columns, name)
                    yield from self.find(part, rows, behind=behind)
        elif _is_search(estimator):
            for setting in _settings_tried(estimator):
                candidate = clone(estimator.estimator).set_params(**setting)
                yield from self.find(candidate, X, behind=behind)
        else:
            for part in _parts(estimator):
                yield from self.find(part, X, behind=behind)

    def _in_pipeline(
        self, pipeline: Pipeline, X: Any, behind: str | None
    ) -> Iterator[Found]:
        rows = X
        steps = [step for step in pipeline.steps if not _is_unused(step[1])]
        for place, (name, step) in enumerate(steps):
            yield from self.find(step, rows, behind=behind)
            later = any(_has_extractor(other) for _, other in steps[place + 1 :])
            if not later or behind is not None:
                continue
            if _learns(step):
                behind = f"the step {name!r}"
            else:
                rows = self._once(rows, step, clone(step).fit_transform)

    def _columns(self, X: Any, columns: Any, name: str) -> Any:
        """Return the columns of a ColumnTransformer's part, as it selects them."""

        def select(X: Any) -> Any:
            table = X if _is_table(X) else _as_table(X)
            chosen = columns(table) if callable(columns) else columns
            try:
                return _safe_indexing(table, chosen, axis=1)
            except (KeyError, ValueError, IndexError) as error:
                msg = f"`X` must have the columns {chosen!r} that {name!r} takes."
                raise ValueError(msg) from error

        return self._once(X, columns, select)

    def _once(self, X: Any, by: Any, make: Callable[[Any], Any]) -> Any:
        """Return what is made of rows, by an estimator or of columns."""
        key = (id(X), _key_of(by))
        if key not in self._made:
            self._made[key] = (X, by, make(X))
        return self._made[key][2]


def settings_of(estimator: Any) -> Hashable:
    """Return a quick key of the parameters: a fingerprint has to read all weights."""
    params = sorted(estimator.get_params(deep=False).items())
    return (type(estimator), *(_key_of(value) for _, value in params))


def _key_of(value: Any) -> Hashable:
    """Return what is equal for values that are known to do the same."""
    if isinstance(value, (str, int, float, slice, type(None))):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_key_of, value))
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, BaseEstimator) and not isinstance(value, type):
        return settings_of(value)
    return id(value)


def _unknown_rows(behind: str) -> ValueError:
    msg = (
        f"a TorchFeatureExtractor stands behind {behind}, which must be fitted first: "
        "its rows are not known before. Put the extractor first, or call `precompute` "
        "on it with the rows that it will get."
    )
    return ValueError(msg)


def _is_column_transformer(estimator: Any) -> bool:
    from sklearn.compose import ColumnTransformer  # slow: it brings linear models

    return isinstance(estimator, ColumnTransformer)


def _is_search(estimator: Any) -> bool:
    return hasattr(estimator, "param_grid") or hasattr(estimator, "param_distributions")


def _is_unused(part: Any) -> bool:
    return part is None or (isinstance(part, str) and part in _UNUSED)


def _learns(step: Any) -> bool:
    """Return whether a step must be fitted before it can transform rows."""
    if _is_unused(step):
        return False
    if isinstance(step, Pipeline):
        return any(_learns(part) for _, part in step.steps)
    if isinstance(step, FeatureUnion):
        return any(_learns(part) for _, part in step.transformer_list)
    if _is_column_transformer(step):
        parts = [part for _, part, _ in step.transformers]
        return any(map(_learns, [*parts, step.remainder]))
    return bool(get_tags(step).requires_fit)


def _with_remainder(estimator: Any, X: Any) -> list[tuple[str, Any, Any]]:
    """List the parts of a ColumnTransformer, and what gets all other columns."""
    parts = list(estimator.transformers)
    if not _has_extractor(estimator.remainder):
        return parts
    passing = [(name, "drop", columns) for name, _, columns in parts]
    probe = clone(estimator).set_params(transformers=passing, remainder="passthrough")
    fitted = probe.fit(X).transformers_
    others = [columns for name, _, columns in fitted if name == "remainder"]
    return [*parts, *(("remainder", estimator.remainder, one) for one in others)]


def _has_extractor(estimator: Any) -> bool:
    if isinstance(estimator, TorchFeatureExtractor):
        return True
    if _is_column_transformer(estimator):
        parts = [part for _, part, _ in estimator.transformers]
        return any(map(_has_extractor, [*parts, estimator.remainder]))
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


def _is_table(X: Any) -> bool:
    return hasattr(X, "__array__") or hasattr(X, "__dataframe__") or issparse(X)


def _as_table(X: Any) -> Any:
    """Make an array of a list, as a ColumnTransformer does."""
    return check_array(X, ensure_all_finite="allow-nan", dtype=object)


def _settings_tried(search: Any) -> Any:
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
