"""Pickles that name a file of weights instead of holding them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from weakref import WeakKeyDictionary

from sklearn_torch_bridge._pickling import Packed, reducer_override, unpack
from sklearn_torch_bridge.adapters._parcel import Reference, pack

__all__ = ["weights_in_file"]


@contextmanager
def weights_in_file(folder: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Keep weights out of pickles: in one file, for as long as a block runs.

    joblib's own workers get weights as a memory map; its backends on Dask and Ray, and
    `dask_ml`, pickle the model with every task. In this block modules are written to a
    file once, which pickles name and each worker process opens once.

    Parameters
    ----------
    folder : path-like, default=None
        One that all workers can read, for a folder with the file. None: a temporary
        folder of this machine.

    Yields
    ------
    None
        Nothing; the file is deleted when the block ends.

    Raises
    ------
    FileNotFoundError
        On a worker that cannot see the file, and for a pickle that is loaded later.

    See Also
    --------
    to_dask : Brings the model to the workers of a Dask cluster, without a block.

    Notes
    -----
    The block holds for all threads of this process. A model that is edited in it is
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
    known: WeakKeyDictionary[Any, tuple[Packed, Reference]] = WeakKeyDictionary()

    def by_reference(content: Any, packed: Packed) -> tuple[Any, ...]:
        before = known.get(content)
        if before is None or not _is_same(before[0], packed):
            reference = Reference(packed, pack(packed), folder=place)
            before = known[content] = packed, reference
        return _open, (before[1],)

    try:
        with reducer_override(by_reference):
            yield
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _open(reference: Reference) -> Any:
    return reference.open(lambda packed: unpack(*packed))


def _is_same(one: Packed, other: Packed) -> bool:
    """Check for equal models: their arrays are the same objects while they are."""
    pairs = zip([*one[:2], *one[2]], [*other[:2], *other[2]], strict=False)
    return len(one[2]) == len(other[2]) and all(
        a is b or (type(a) is type(b) is bytes and a == b) for a, b in pairs
    )
