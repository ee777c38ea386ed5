"""Run an extractor over the batches of a Ray Dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.adapters._parcel import Parcel, Ticket, pack
from sklearn_torch_bridge.adapters._promise import check_estimator, promise_of
from sklearn_torch_bridge.adapters._runner import Runner

__all__ = ["to_ray"]

_AT_LEAST = "2.51"
_PURPOSE = "`to_ray`"
_LONGEST = 60  # characters of a value in a message


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
        as `ray.data.read_images` gives them. A list of names of numeric columns is a
        frame.
    output_column : str, default="embedding"
        The name of the column that is added.
    method : str, default="transform"
        The method that each batch is given to: ``"predict"`` of a Pipeline, say.
    meta : array-like of shape (0, ...), default=None
        Declares the shape of a row of the result, and its dtype. None asks
        `extractor`, which must then be fitted.
    **options : dict
        Go to `ray.data.Dataset.map_batches`: `num_gpus`, `num_cpus`, `batch_size` (the
        rows of a call, not of a forward pass), `compute`, ... `concurrency`, an int or
        a pair of least and most, is the number of actors.

    Returns
    -------
    dataset : ray.data.Dataset
        Lazy: the columns of `dataset` as they are, and one more. Vectors are a tensor
        column of fixed shape, which Parquet keeps; values, such as those of
        ``predict``, are a plain column.

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
    ``num_gpus=1`` sees one GPU, and runs there.

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
    promise = promise_of(extractor, method, [], meta)
    parcel = pack(extractor)
    place = None if parcel.is_small else InObjectStore(ray.put(parcel))
    runner = Runner(Ticket(extractor, parcel, place=place), method, promise)
    return dataset.map_batches(
        Extract,
        fn_constructor_args=(runner, column, output_column),
        batch_format="pyarrow",
        **_with_actors(options, data),
    )


@dataclass(frozen=True)
class InObjectStore:
    """In the object store of Ray, which has it once a machine."""

    reference: Any

    def fetch(self, digest: str) -> Parcel:
        """Give a view of it."""
        ray = import_optional("ray", purpose=_PURPOSE)
        parcel: Parcel = ray.get(self.reference)
        return parcel


class Extract:
    """The actor: loads once, then adds a column to each batch."""

    def __init__(
        self, runner: Runner, column: str | Sequence[str], output_column: str
    ) -> None:
        self._runner = runner
        self._column = column
        self._output_column = output_column
        runner.load()

    def __call__(self, batch: Any) -> Any:
        """Add the column to a table of Arrow."""
        if self._output_column in batch.column_names:
            msg = (
                "`output_column` must be a name that `dataset` has not, got "
                f"{self._output_column!r}."
            )
            raise ValueError(msg)

        def where(row: int | None) -> str:
            name = f"a batch of {batch.num_rows} rows"
            return (
                name if row is None else f"row {row} of {name}{self._look(batch, row)}"
            )

        result = self._runner.run(_rows_of(batch, self._column), where)
        return batch.append_column(self._output_column, _as_arrow(result))

    def _look(self, batch: Any, row: int) -> str:
        """Say what the columns beside the rows hold, for somebody who looks for it."""
        rows = [self._column] if isinstance(self._column, str) else self._column
        others = {
            name: batch.column(name)[row].as_py()
            for name in batch.column_names
            if name not in rows
        }
        shown = [
            f"{name}={value!r:.{_LONGEST}}"
            for name, value in others.items()
            if isinstance(value, (str, int, float))
        ]
        return f" ({', '.join(shown)})" if shown else ""


def _rows_of(batch: Any, column: str | Sequence[str]) -> Any:
    """Give the rows as an extractor takes them."""
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
    """Give vectors as a tensor column, values as a plain one."""
    if result.ndim == 1:
        return import_optional("pyarrow", purpose=_PURPOSE).array(result)
    extensions = import_optional("ray.data.extensions", purpose=_PURPOSE)
    return extensions.ArrowTensorArray.from_numpy(result)


def _with_actors(options: dict[str, Any], data: Any) -> dict[str, Any]:
    """Say `concurrency` as Ray says it today: a pool of actors."""
    rest = {"udf_modifying_row_count": False, **options}
    number = rest.pop("concurrency", None)
    if number is None:
        return rest
    least, most = number if isinstance(number, tuple) else (number, number)
    pool = data.ActorPoolStrategy(min_size=least, max_size=most)
    return {"compute": pool, **rest}
