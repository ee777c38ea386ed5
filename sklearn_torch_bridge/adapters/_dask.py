"""Run an extractor over the partitions of a Dask collection."""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.adapters._parcel import (
    DELIVERED,
    Parcel,
    Reference,
    at_worker,
    pack,
)
from sklearn_torch_bridge.adapters._row_spec import check_estimator, row_spec_of
from sklearn_torch_bridge.adapters._runner import Runner

__all__ = ["to_dask"]

_AT_LEAST = "2025.1"
_PURPOSE = "`to_dask`"
_COLLECTIONS = {
    "dask.array": ["Array"],
    "dask.dataframe": ["DataFrame", "Series"],
    "dask.bag": ["Bag"],
}


def to_dask(
    extractor: Any,
    collection: Any,
    *,
    method: str = "transform",
    lengths: bool | Sequence[int] | None = None,
    meta: Any = None,
    weights: str | os.PathLike[str] = "auto",
) -> Any:
    """Run an extractor, or a Pipeline that begins with one, over a Dask collection.

    At once only the width of the result is computed, where `extractor` is not fitted.
    The model reaches each worker process once, never with the tasks.

    Parameters
    ----------
    extractor : TorchFeatureExtractor or Pipeline
        Fitted, or one that needs no fit. A Pipeline must begin with an extractor.
    collection : dask.array.Array, dask.dataframe.DataFrame, Series or dask.bag.Bag
        The rows. Columns of an array that lie in several chunks are brought together.
        A Bag has one entry a row.
    method : str, default="transform"
        The method for each partition, such as ``"predict_proba"`` of a Pipeline.
    lengths : bool or sequence of int, default=None
        How many rows the partitions of a frame or a Bag have (arrays know): None leaves
        the chunks unknown (``nan``), True counts now, a sequence is believed.
    meta : array-like of shape (0, ...), default=None
        Declares shape and dtype of a row of the result. None asks `extractor`, which
        knows them once it is fitted.
    weights : {"auto", "file", "scheduler"} or path, default="auto"
        How the model reaches the workers. ``"file"`` writes it once into a temporary
        file, which all workers of this machine map; a path is a folder for that file,
        which all machines share. ``"scheduler"`` has the scheduler send it to each
        worker process, also to later ones. ``"auto"`` is ``"scheduler"`` where a
        `distributed.Client` is open with workers on other machines (or without any
        yet), else ``"file"``. What is small, such as a string, goes with the tasks.

    Returns
    -------
    Z : dask.array.Array of shape (n_samples, n_features_out)
        Lazy, with the partitions of `collection` as its chunks of rows.

    Raises
    ------
    ImportError
        If Dask is missing or too old, here or, for this package, on a worker.
    PartitionError
        When computed: a row failed. The message names the partition and the row.
    TypeError
        If `extractor` or `collection` is something else.
    ValueError
        If `extractor` has no such `method`, or if the width cannot be told.

    See Also
    --------
    to_ray : The same for Ray Datasets.
    weights_in_file : For searches and for `dask_ml`, which pickle extractors.

    Notes
    -----
    The result equals that of `extractor` on all rows up to the rounding of its
    kernels. Do not change the model before the result is computed. A ``cache`` is a
    file that each worker opens under that path, on its own machine. A worker gives its
    warnings, such as `TruncationWarning`, itself, once a partition, with the numbers of
    rows in it: on threads in this process, else in the log of the worker.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_torch_bridge import TorchFeatureExtractor
    >>> from sklearn_torch_bridge.adapters import to_dask
    >>> extractor = TorchFeatureExtractor(torch.nn.ReLU()).fit(np.eye(2))
    >>> Z = to_dask(extractor, da.from_array(np.array([[-1, 2], [3, -4.0]]), chunks=1))
    >>> Z.chunks
    ((1, 1), (2,))
    >>> Z.compute()
    array([[0., 2.],
           [3., 0.]], dtype=float32)
    """
    dask = import_optional("dask.base", purpose=_PURPOSE, at_least=_AT_LEAST)
    check_estimator(extractor, method)
    rows, kind = _as_known(collection)
    spec = row_spec_of(extractor, method, _no_rows(rows, kind), meta)
    parcel = pack(extractor)
    name = f"{method}-{dask.tokenize(parcel.digest, method, repr(spec), rows)}"
    runner = Runner(_reference(extractor, parcel, weights), method, spec)
    return _map_parts(rows, runner, name, _lengths(rows, kind, lengths))


def _as_known(collection: Any) -> tuple[Any, str]:
    """Return the collection, simplified, and the name of its module in Dask."""
    for module, names in _COLLECTIONS.items():
        library = sys.modules.get(module)  # whoever made a collection has imported it
        kinds = () if library is None else tuple(getattr(library, n) for n in names)
        if isinstance(collection, kinds):
            kind = module.removeprefix("dask.")
            if kind == "array":
                return _of_whole_rows(collection), kind
            return collection.optimize() if kind == "dataframe" else collection, kind
    msg = (
        "`collection` must be a Dask Array, DataFrame, Series or Bag, got "
        f"{type(collection).__name__}."
    )
    raise TypeError(msg)


def _of_whole_rows(array: Any) -> Any:
    """Join the chunks of each axis but that of the rows."""
    if not array.ndim:
        msg = "`collection` must have an axis of rows, got an array without axes."
        raise ValueError(msg)
    if any(np.isnan(size) for size in array.shape[1:]):
        msg = (
            "`collection` must have a known number of columns, got shape "
            f"{array.shape}. Call its compute_chunk_sizes() first."
        )
        raise ValueError(msg)
    return array.rechunk(dict.fromkeys(range(1, array.ndim), -1))


def _no_rows(rows: Any, kind: str) -> Any:
    """Return an empty partition."""
    if kind == "dataframe":
        return rows._meta.iloc[:0]  # noqa: SLF001 - as Dask's own users of it
    if kind == "bag":
        return []
    return np.empty((0, *rows.shape[1:]), rows.dtype)


def _lengths(
    rows: Any, kind: str, lengths: bool | Sequence[int] | None
) -> tuple[float, ...]:
    """Return the number of rows of each partition; nan where it is not known."""
    if kind == "array":
        if lengths is not None:
            msg = f"`lengths` must be None for an array, got {lengths!r}."
            raise ValueError(msg)
        known: tuple[float, ...] = rows.chunks[0]
        return known
    n_partitions = int(rows.npartitions)
    if lengths is None or lengths is False:
        return (np.nan,) * n_partitions
    if lengths is True:
        meta = {} if kind == "bag" else {"meta": (None, "int64")}
        count = _counted if kind == "bag" else len
        return tuple(map(int, rows.map_partitions(count, **meta).compute()))
    if len(lengths) != n_partitions:
        msg = (
            f"`lengths` must have one entry a partition ({n_partitions}), got "
            f"{len(lengths)}."
        )
        raise ValueError(msg)
    return tuple(map(int, lengths))


def _counted(rows: Any) -> list[int]:
    return [sum(1 for _ in rows)]


def _map_parts(rows: Any, runner: Runner, name: str, lengths: tuple[float, ...]) -> Any:
    """Map over the partitions, each of whole rows."""
    da = import_optional("dask.array", purpose=_PURPOSE)
    graphs = import_optional("dask.highlevelgraph", purpose=_PURPOSE)
    keys = import_optional("dask.core", purpose=_PURPOSE).flatten(rows.__dask_keys__())
    zeros = (0,) * len(runner.spec.shape)
    layer = {
        (name, number, *zeros): (_run_part, runner, key, number)
        for number, key in enumerate(keys)
    }
    graph = graphs.HighLevelGraph.from_collections(name, layer, dependencies=[rows])
    chunks = (lengths, *((size,) for size in runner.spec.shape))
    return da.Array(graph, name, chunks, meta=runner.spec.empty())


def _run_part(runner: Runner, rows: Any, number: int) -> Any:
    """Run on a worker."""
    if not hasattr(rows, "__len__"):
        rows = list(rows)  # a lazy part of a Bag
    return runner.run(rows, f"partition {number}")


def _reference(
    extractor: Any, parcel: Parcel, weights: str | os.PathLike[str]
) -> Reference:
    """Send the model to the workers, or prepare a file for them."""
    client = _client()
    route: Any = weights
    if route == "auto":
        route = "file" if client is None or _are_all_here(client) else "scheduler"
    if route == "scheduler":
        if client is None or client.asynchronous:
            msg = (
                "`weights`='scheduler' needs a distributed.Client that is not "
                "asynchronous: open it before the call."
            )
            raise ValueError(msg)
        if not parcel.is_small:
            # Each worker gets it, also one that comes later.
            client.register_plugin(_keeper_of(parcel), name=f"weights-{parcel.digest}")
            return Reference(extractor, parcel, place=partial(at_worker, parcel.digest))
    folder = None if route in ("file", "scheduler") else Path(route)
    if folder is not None and not folder.is_dir():
        msg = (
            "`weights` must be 'auto', 'file', 'scheduler' or a folder that exists, "
            f"got {weights!r}."
        )
        raise ValueError(msg)
    return Reference(extractor, parcel, folder=folder)


def _client() -> Any:
    """Return the client that is open in this process, if any."""
    distributed = sys.modules.get("distributed")  # whoever has a client has imported it
    with suppress(ValueError):
        return None if distributed is None else distributed.default_client()
    return None


def _are_all_here(client: Any) -> bool:
    """Check whether there are workers, all of them on this machine."""
    if client.asynchronous:
        return True  # it cannot be asked from here
    here: set[Any] = {"127.0.0.1", "::1", "localhost"}
    with suppress(OSError):  # the name of this machine has no address
        found = socket.getaddrinfo(socket.gethostname(), None)
        here |= {address[0] for *_, address in found}
    workers = [urlsplit(address) for address in client.nthreads()]
    return bool(workers) and (
        all(worker.scheme == "inproc" for worker in workers)
        or all(worker.hostname in here for worker in workers)
    )


def _keeper_of(parcel: Parcel) -> Any:
    """Return a plugin that keeps a parcel on each worker."""
    distributed: Any = import_optional("distributed", purpose=_PURPOSE)

    class Keeper(distributed.WorkerPlugin):
        idempotent = True  # of one name, which has the digest, all are equal

        def setup(self, worker: Any) -> None:
            DELIVERED[parcel.digest] = parcel

        def teardown(self, worker: Any) -> None:
            DELIVERED.pop(parcel.digest, None)

        def __reduce__(self) -> tuple[Any, ...]:
            return _keeper_of, (parcel,)

    return Keeper()
