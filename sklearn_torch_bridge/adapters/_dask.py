"""Run an extractor over the partitions of a Dask collection."""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.adapters._parcel import (
    DELIVERED,
    AtWorker,
    Parcel,
    Ticket,
    pack,
    put_in_file,
)
from sklearn_torch_bridge.adapters._promise import check_estimator, promise_of
from sklearn_torch_bridge.adapters._runner import Runner

__all__ = ["to_dask"]

_AT_LEAST = "2025.1"
_PURPOSE = "`to_dask`"


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

    Nothing is computed but the width of the result, and this only where `extractor`
    is not fitted. The model reaches each worker process once, never with the tasks.

    Parameters
    ----------
    extractor : TorchFeatureExtractor or Pipeline
        Fitted, or one that needs no fit. A Pipeline must begin with an extractor.
    collection : dask.array.Array, dask.dataframe.DataFrame, Series or dask.bag.Bag
        The rows. Columns of an array that lie in several chunks are brought together.
        A Bag has one entry a row.
    method : str, default="transform"
        The method that each partition is given to: ``"predict"`` or
        ``"predict_proba"`` of a Pipeline, say.
    lengths : bool or sequence of int, default=None
        How many rows the partitions of a frame or a Bag have, which these do not know.
        None leaves the chunks of rows unknown (``nan``), True counts them now,
        a sequence is believed. Arrays know.
    meta : array-like of shape (0, ...), default=None
        Declares the shape of a row of the result, and its dtype. None asks
        `extractor`, which knows them once it is fitted.
    weights : {"auto", "file", "scheduler"} or path, default="auto"
        How the model reaches the workers. ``"file"`` writes it once into a temporary
        file, which all workers of this machine map; a path names a folder for that
        file which all machines share. ``"scheduler"`` has the scheduler send it to
        each worker process, also to those that come later. ``"auto"`` is
        ``"scheduler"`` where a `distributed.Client` is open with workers on other
        machines (or without any yet), else ``"file"``. What is small, such as a model
        string, goes with the tasks.

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
    file that each worker opens under that path, on its own machine.

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
    import_optional("dask", purpose=_PURPOSE, at_least=_AT_LEAST)
    check_estimator(extractor, method)
    rows, kind = _as_known(collection)
    promise = promise_of(extractor, method, _no_rows(rows, kind), meta)
    parcel = pack(extractor)
    ticket = _ticket(extractor, parcel, weights)
    name = f"{method}-{_token(parcel.digest, method, promise, rows)}"
    runner = Runner(ticket, method, promise)
    if kind == "array":
        if lengths is not None:
            msg = f"`lengths` must be None for an array, got {lengths!r}."
            raise ValueError(msg)
        return _of_array(rows, runner, name)
    return _of_parts(rows, runner, name, _lengths(rows, kind, lengths))


def _as_known(collection: Any) -> tuple[Any, str]:
    """Return the collection, simplified, and its kind."""
    kinds = {
        "array": ("dask.array", ("Array",)),
        "frame": ("dask.dataframe", ("DataFrame", "Series")),
        "bag": ("dask.bag", ("Bag",)),
    }
    for kind, (module, names) in kinds.items():
        library: Any = sys.modules.get(module)  # imported by whoever made a collection
        known = () if library is None else tuple(getattr(library, n) for n in names)
        if isinstance(collection, known):
            return _SIMPLIFIED[kind](collection), kind
    msg = (
        "`collection` must be a Dask Array, DataFrame, Series or Bag, got "
        f"{type(collection).__name__}."
    )
    raise TypeError(msg)


def _with_rows(array: Any) -> Any:
    if not array.ndim:
        msg = "`collection` must have an axis of rows, got an array without axes."
        raise ValueError(msg)
    if any(np.isnan(size) for size in array.shape[1:]):
        msg = (
            "`collection` must have a known number of columns, got shape "
            f"{array.shape}. Call its compute_chunk_sizes() first."
        )
        raise ValueError(msg)
    return array


_SIMPLIFIED: dict[str, Callable[[Any], Any]] = {
    "array": _with_rows,
    "frame": lambda frame: frame.optimize(),
    "bag": lambda bag: bag,
}


def _no_rows(rows: Any, kind: str) -> Any:
    """Give no rows of the kind that partitions have."""
    if kind == "frame":
        return rows._meta.iloc[:0]  # noqa: SLF001 - as Dask's own users of it
    if kind == "bag":
        return []
    return np.empty((0, *rows.shape[1:]), rows.dtype)


def _token(*parts: Any) -> str:
    token: str = import_optional("dask.base", purpose=_PURPOSE).tokenize(
        *(part if hasattr(part, "__dask_graph__") else repr(part) for part in parts)
    )
    return token


def _lengths(
    rows: Any, kind: str, lengths: bool | Sequence[int] | None
) -> tuple[float, ...]:
    """Give the number of rows of each partition; nan where it is not known."""
    n_partitions = int(rows.npartitions)
    if lengths is None or lengths is False:
        return (np.nan,) * n_partitions
    if lengths is True:
        if kind == "bag":
            counted = rows.map_partitions(_counted)
        else:
            counted = rows.map_partitions(len, meta=(None, "int64"))
        return tuple(int(length) for length in counted.compute())
    if len(lengths) != n_partitions:
        msg = (
            f"`lengths` must have one entry a partition ({n_partitions}), got "
            f"{len(lengths)}."
        )
        raise ValueError(msg)
    return tuple(int(length) for length in lengths)


def _counted(rows: Any) -> list[int]:
    return [sum(1 for _ in rows)]


def _of_array(rows: Any, runner: Runner, name: str) -> Any:
    """Map over the chunks of rows; Dask joins those of axes that are dropped."""
    da = import_optional("dask.array", purpose=_PURPOSE)
    shape = runner.promise.shape
    return da.map_blocks(
        partial(_run_block, runner=runner),
        rows,
        name=name,
        dtype=runner.promise.dtype,
        chunks=(rows.chunks[0], *((size,) for size in shape)),
        drop_axis=list(range(1, rows.ndim)),
        new_axis=list(range(1, 1 + len(shape))),
        meta=runner.promise.empty(),
    )


def _run_block(rows: Any, *, runner: Runner, block_id: tuple[int, ...]) -> Any:
    return _run_part(runner, rows, block_id[0])


def _of_parts(rows: Any, runner: Runner, name: str, lengths: tuple[float, ...]) -> Any:
    """Map over the partitions of a frame or a Bag."""
    da = import_optional("dask.array", purpose=_PURPOSE)
    graphs = import_optional("dask.highlevelgraph", purpose=_PURPOSE)
    zeros = (0,) * len(runner.promise.shape)
    layer = {
        (name, number, *zeros): (_run_part, runner, key, number)
        for number, key in enumerate(rows.__dask_keys__())
    }
    graph = graphs.HighLevelGraph.from_collections(name, layer, dependencies=[rows])
    chunks = (lengths, *((size,) for size in runner.promise.shape))
    return da.Array(graph, name, chunks, meta=runner.promise.empty())


def _run_part(runner: Runner, rows: Any, number: int) -> Any:
    """Run on a worker."""
    if not hasattr(rows, "__len__"):
        rows = list(rows)  # a lazy part of a Bag

    def where(row: int | None) -> str:
        return (
            f"partition {number}" if row is None else f"row {row} of partition {number}"
        )

    return runner.run(rows, where)


def _ticket(extractor: Any, parcel: Parcel, weights: str | os.PathLike[str]) -> Ticket:
    """Send the model on its way, or decide how it will go."""
    client = _client()
    how: Any = weights
    if how == "auto":
        how = "file" if client is None or _are_all_here(client) else "scheduler"
    if how == "scheduler":
        if client is None or client.asynchronous:
            msg = (
                "`weights`='scheduler' needs a distributed.Client that is not "
                "asynchronous: open it before the call."
            )
            raise ValueError(msg)
        if not parcel.is_small:
            return Ticket(extractor, parcel, place=_send(client, parcel))
    folder = None if how in ("file", "scheduler") else Path(how)
    if folder is not None and not folder.is_dir():
        msg = (
            "`weights` must be 'auto', 'file', 'scheduler' or a folder that exists, "
            f"got {weights!r}."
        )
        raise ValueError(msg)
    return Ticket(extractor, parcel, deliver=partial(put_in_file, folder=folder))


def _client() -> Any:
    """Give the client that is open in this process, if any."""
    distributed = sys.modules.get("distributed")  # whoever has a client imported it
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def _are_all_here(client: Any) -> bool:
    """Tell whether there are workers, all of them on this machine."""
    if client.asynchronous:
        return True  # it cannot be asked from here
    hosts = {urlsplit(address).hostname for address in client.nthreads()}
    here = {"127.0.0.1", "::1", "localhost", *_own_addresses()}
    schemes = {urlsplit(address).scheme for address in client.nthreads()}
    return schemes == {"inproc"} or (bool(hosts) and hosts <= here)


def _own_addresses() -> list[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None)
    except OSError:  # a name that nobody knows
        return []
    return [str(address[0]) for *_, address in found]


def _send(client: Any, parcel: Parcel) -> AtWorker:
    """Have the scheduler send a parcel to its workers, now and whenever one comes."""
    client.register_plugin(_keeper(parcel), name=f"weights-{parcel.digest}")
    return AtWorker()


def _keeper(parcel: Parcel) -> Any:
    """Make a plugin of workers that keeps a parcel."""
    distributed: Any = import_optional("distributed", purpose=_PURPOSE)

    class Keeper(distributed.WorkerPlugin):
        idempotent = True  # a name has the digest: it is the same

        def setup(self, worker: Any) -> None:
            DELIVERED[parcel.digest] = parcel

        def teardown(self, worker: Any) -> None:
            DELIVERED.pop(parcel.digest, None)

        def __reduce__(self) -> tuple[Any, ...]:
            return _keeper, (parcel,)

    return Keeper()
