"""Run an extractor over the batches of a Ray Dataset."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.adapters._parcel import Reference, pack
from sklearn_torch_bridge.adapters._row_spec import check_estimator, row_spec_of
from sklearn_torch_bridge.adapters._runner import Runner

__all__ = ["to_ray"]

_AT_LEAST = "2.51"
_PURPOSE = "`to_ray`"
_LONGEST = 60  # characters of a value in a message
_SHOWN = (str, int, float)


def to_ray(
    extractor: Any,
    dataset: Any,
    *,
    column: str | Sequence[str],
    output_column: str = "embedding",
    method: str = "transform",
    meta: Any = None,
    **options: Any,
) -> Any:
    """Run an extractor, or a Pipeline that begins with one, over a Ray Dataset.

    Each worker is an actor that loads the model once. Weights lie in Ray's object
    store, once a machine, and never travel with the batches.

    Parameters
    ----------
    extractor : TorchFeatureExtractor or Pipeline
        Fitted, or one that needs no fit. A Pipeline must begin with an extractor.
    dataset : ray.data.Dataset
        The rows.
    column : str or list of str
        The column with the rows: texts, tensors (of one shape or of several), images
        of `ray.data.read_images`. A list of names of numeric columns is a frame.
    output_column : str, default="embedding"
        The name of the column that is added.
    method : str, default="transform"
        The method for each batch, such as ``"predict"`` of a Pipeline.
    meta : array-like of shape (0, ...), default=None
        Declares shape and dtype of a row of the result. None asks `extractor`, which
        must then be fitted.
    **options : dict
        Go to `ray.data.Dataset.map_batches`: `num_gpus`, `num_cpus`, `batch_size` (the
        rows of a call, not of a forward pass), `compute`, ... `concurrency`, an int or
        a pair of least and most, is the number of actors.

    Returns
    -------
    dataset : ray.data.Dataset
        Lazy: the columns of `dataset`, and one more. Vectors are a tensor column of
        fixed shape, which Parquet keeps; single values are a plain column.

    Raises
    ------
    ImportError
        If Ray is missing or too old, here or, for this package, on a worker.
    PartitionError
        When run, inside Ray's own error: a row failed. The message names the row in
        its batch, and what its other columns hold.
    TypeError
        If `extractor` or `dataset` is something else.
    ValueError
        If `extractor` has no such `method`, or if the width cannot be told.

    See Also
    --------
    to_dask : The same for Dask collections.

    Notes
    -----
    Ray gives rows back in any order unless ``preserve_order`` is set in its
    `DataContext`; the columns that stay tell which is which. The result equals that of
    `extractor` on all rows up to the rounding of its kernels. An actor with
    ``num_gpus=1`` sees one GPU, and runs there. Warnings, such as `TruncationWarning`,
    are given by the actors, once a batch, with the numbers of rows in it: Ray shows
    them with the output of its workers.

    Examples
    --------
    A cluster must run, so this is shown, not run; see ``examples/41_ray.py``::

        texts = ray.data.read_parquet("reviews")
        done = to_ray(extractor, texts, column="text", num_gpus=1, batch_size=1024)
        done.write_parquet("embedded")
    """
    ray = import_optional("ray", purpose=_PURPOSE, at_least=_AT_LEAST)
    data = import_optional("ray.data", purpose=_PURPOSE)
    if not isinstance(dataset, data.Dataset):
        msg = f"`dataset` must be a ray.data.Dataset, got {type(dataset).__name__}."
        raise TypeError(msg)
    check_estimator(extractor, method)
    spec = row_spec_of(extractor, method, [], meta)
    parcel = pack(extractor)
    place = None if parcel.is_small else partial(in_object_store, ray.put(parcel))
    runner = Runner(Reference(extractor, parcel, place=place), method, spec)
    return dataset.map_batches(
        Extract,
        fn_constructor_args=(runner, column, output_column),
        batch_format="pyarrow",
        **_with_actors(options, data),
    )


def in_object_store(reference: Any) -> Any:
    """Return a view of a parcel that the object store of Ray holds once a machine."""
    return import_optional("ray", purpose=_PURPOSE).get(reference)


class Extract:
    """An actor: loads the model once, then adds a column to each batch."""

    def __init__(
        self, runner: Runner, column: str | Sequence[str], output_column: str
    ) -> None:
        self._runner, self._column = runner, column
        self._output_column = output_column
        runner.load()

    def __call__(self, batch: Any) -> Any:
        """Return a table of Arrow with the column added."""
        if self._output_column in batch.column_names:
            msg = (
                "`output_column` must be a name that `dataset` has not, got "
                f"{self._output_column!r}."
            )
            raise ValueError(msg)
        rows, part = _rows_of(batch, self._column), f"a batch of {batch.num_rows} rows"
        result = self._runner.run(rows, part, partial(_others, batch, self._column))
        return batch.append_column(self._output_column, _as_arrow(result))


def _others(batch: Any, column: str | Sequence[str], row: int) -> str:
    """Return what the other columns hold in a row, so that it can be found."""
    columns = [column] if isinstance(column, str) else column
    names = [name for name in batch.column_names if name not in columns]
    values = [(name, batch.column(name)[row].as_py()) for name in names]
    shown = [f"{n}={v!r:.{_LONGEST}}" for n, v in values if isinstance(v, _SHOWN)]
    return f" ({', '.join(shown)})" if shown else ""


def _rows_of(batch: Any, column: str | Sequence[str]) -> Any:
    """Return the rows as an extractor takes them."""
    names = [column] if isinstance(column, str) else list(column)
    if missing := [name for name in names if name not in batch.column_names]:
        known = ", ".join(map(repr, batch.column_names))
        msg = f"`column` must name columns of `dataset` ({known}), got {missing[0]!r}."
        raise ValueError(msg)
    if not isinstance(column, str):
        return batch.select(names).to_pandas()
    arrow = import_optional("pyarrow", purpose=_PURPOSE)
    kind = batch.schema.field(column).type
    if arrow.types.is_string(kind) or arrow.types.is_large_string(kind):
        return batch.column(column).to_pylist()
    blocks = import_optional("ray.data.block", purpose=_PURPOSE)
    values = blocks.BlockAccessor.for_block(batch.select(names)).to_numpy(column)
    if values.dtype == object:
        return list(values)
    return values[:, np.newaxis] if values.ndim == 1 else values


def _as_arrow(result: Any) -> Any:
    """Convert vectors to a tensor column, and single values to an array of Arrow."""
    if result.ndim == 1:
        return import_optional("pyarrow", purpose=_PURPOSE).array(result)
    extensions = import_optional("ray.data.extensions", purpose=_PURPOSE)
    return extensions.ArrowTensorArray.from_numpy(result)


def _with_actors(options: dict[str, Any], data: Any) -> dict[str, Any]:
    """Convert `concurrency` to a pool of actors, as Ray asks for today."""
    rest = {"udf_modifying_row_count": False, **options}
    if (number := rest.pop("concurrency", None)) is None:
        return rest
    least, most = number if isinstance(number, tuple) else (number, number)
    return {"compute": data.ActorPoolStrategy(min_size=least, max_size=most), **rest}
