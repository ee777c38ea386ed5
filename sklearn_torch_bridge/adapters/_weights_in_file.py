"""Pickles that speak of a file instead of holding weights."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from sklearn_torch_bridge._pickling import Packed, detour, unpack
from sklearn_torch_bridge.adapters._parcel import Ticket, pack, put_in_file

__all__ = ["weights_in_file"]


@contextmanager
def weights_in_file(folder: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Keep weights out of pickles: in one file, for as long as a block runs.

    joblib's own workers get weights as a memory map; its backends on Dask and Ray, and
    `dask_ml`, pickle the model with every task. In this block modules are written to a
    file once, and pickles name it. Each worker process opens it once.

    Parameters
    ----------
    folder : path-like, default=None
        Where the file goes, in a folder of its own: one that all workers can read.
        None: a temporary folder of this machine.

    Yields
    ------
    None
        Nothing; the file is deleted when the block ends.

    Raises
    ------
    FileNotFoundError
        On a worker that cannot see the file, and when a pickle of the block is loaded
        after it has ended.

    See Also
    --------
    to_dask : Brings the model to the workers of a Dask cluster, without a block.

    Notes
    -----
    It holds for all threads of this process. A model that is edited in between is
    written again. Tasks of one worker share the module; extractors never change it.

    Examples
    --------
    >>> import pickle
    >>> import torch
    >>> from sklearn_torch_bridge import TorchFeatureExtractor
    >>> from sklearn_torch_bridge.adapters import weights_in_file
    >>> extractor = TorchFeatureExtractor(torch.nn.Linear(1_000, 1_000))
    >>> with weights_in_file():
    ...     data = pickle.dumps(extractor)
    ...     same = pickle.loads(data)
    >>> len(data) < 3_000
    True
    >>> torch.equal(same.model.weight, extractor.model.weight)
    True
    """
    place = Path(mkdtemp(prefix="sklearn-torch-bridge-", dir=folder)).absolute()
    known: WeakKeyDictionary[Any, tuple[Packed, Ticket]] = WeakKeyDictionary()

    def by_name(content: Any, packed: Packed) -> tuple[Any, ...]:
        before = known.get(content)
        if before is None or not _is_same(before[0], packed):
            parcel = pack(packed)
            ticket = Ticket(
                packed, parcel, deliver=lambda parcel: put_in_file(parcel, place)
            )
            before = known[content] = packed, ticket
        return _open, (before[1],)

    try:
        with detour(by_name):
            yield
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _open(ticket: Ticket) -> Any:
    return ticket.open(_unpacked)


def _unpacked(packed: Packed) -> Any:
    return unpack(*packed)


def _is_same(one: Packed, other: Packed) -> bool:
    """Tell equal models by the arrays, which are the same objects while they are."""
    return (
        _as_bytes(one[0]) == _as_bytes(other[0])
        and one[1] == other[1]
        and len(one[2]) == len(other[2])
        and all(a is b for a, b in zip(one[2], other[2], strict=True))
    )


def _as_bytes(graph: Any) -> bytes:
    return graph.tobytes() if isinstance(graph, np.ndarray) else graph
