"""What can be tapped: the layers of a model, with what they give and cost."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_torch_bridge._convert import is_container, iter_fields, select_output
from sklearn_torch_bridge._errors import OutputError
from sklearn_torch_bridge._estimators import TorchFeatureExtractor, plan_extraction
from sklearn_torch_bridge._replica import (
    Replica,
    RunAgainError,
    following_axes,
    plain_axis,
    replica,
)
from sklearn_torch_bridge._run import on_device
from sklearn_torch_bridge._types import Inputs
from sklearn_torch_bridge.models import load_model

__all__ = ["LayerInfo", "LayerTable", "layer_table"]

_MOST_ROWS = 32
_OTHER_ROWS = 2
_REPEATS = 5

Recorded = tuple[Any, list[float]]
"""The shape of a layer's first output, and when that call had ended in each run."""


# Its parameters are the fields, which numpydoc cannot read off the source.
@dataclass(frozen=True)
class LayerInfo:  # numpydoc ignore=PR02
    """Hold what is known of one layer.

    Parameters
    ----------
    name : str
        What `layer` takes; "" is the model itself.
    class_name : str
        Of the module.
    n_parameters : int
        Of the module and all inside it, each counted once.
    shape : tuple of int or None
        Of the output of the first call, where `X` was given and the layer ran and
        gave one tensor.
    output : str
        That output in words: of several fields, each with its shape. The axis of the
        rows has size n: the one that follows the number of rows.
    time_share : float or None
        From 0 to 1: when the first call had ended, as a share of the whole forward
        pass. Stopping there costs about as much.
    rows_axis : int or None
        The axis of the rows in `shape`, which an extractor moves to the front. None
        where no axis follows the number of rows: such a layer cannot be tapped.
    """

    name: str
    class_name: str
    n_parameters: int
    shape: tuple[int, ...] | None = None
    output: str = ""
    time_share: float | None = None
    rows_axis: int | None = None


class LayerTable:
    """Hold the layers of a model, in the order of ``named_modules()``.

    Shows as a table in a terminal and in a notebook.

    Parameters
    ----------
    layers : list of LayerInfo
        One entry a layer, the model itself first.
    n_rows : int or None
        Rows that were run to find shapes and times.

    Examples
    --------
    >>> import torch
    >>> from sklearn_torch_bridge import layer_table
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh())
    >>> table = layer_table(model)
    >>> table.names
    ['0', '1']
    >>> print(table)
    layer    class       parameters
    (model)  Sequential          40
    0        Linear              40
    1        Tanh                 0
    """

    def __init__(self, layers: list[LayerInfo], n_rows: int | None = None) -> None:
        self.layers = layers
        self.n_rows = n_rows

    @property
    def names(self) -> list[str]:
        """List what `layer` may be."""
        return [layer.name for layer in self.layers if layer.name]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerInfo]:
        return iter(self.layers)

    def __getitem__(self, name: str) -> LayerInfo:
        """Find a layer by its name."""
        return next(layer for layer in self.layers if layer.name == name)

    def __repr__(self) -> str:
        columns = []
        for name, cells in self._columns().items():
            width = max(map(len, (name, *cells)))
            is_number = name in ("parameters", "time")
            adjust = str.rjust if is_number else str.ljust
            columns.append([adjust(cell, width) for cell in (name, *cells)])
        rows = zip(*columns, strict=True)
        return "\n".join("  ".join(row).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        columns = self._columns()
        rows = [("th", list(columns))]
        rows += [("td", list(row)) for row in zip(*columns.values(), strict=True)]
        lines = (
            "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
            for tag, row in rows
        )
        return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"

    def _columns(self) -> dict[str, list[str]]:
        """Return the cells of each column as text; without `X`, two are left out."""
        layers = self.layers
        columns = {
            "layer": [one.name or "(model)" for one in layers],
            "class": [one.class_name for one in layers],
            "output": [one.output or "did not run" for one in layers],
            "parameters": [f"{one.n_parameters:,}" for one in layers],
            "time": [
                "" if one.time_share is None else f"{one.time_share:.0%}"
                for one in layers
            ],
        }
        if self.n_rows is None:
            del columns["output"], columns["time"]
        return columns


def layer_table(model: Any, X: Any = None) -> LayerTable:
    """List the layers of a model that `layer` may name.

    Parameters
    ----------
    model : TorchFeatureExtractor, torch.nn.Module, str or callable
        An extractor, or what may be given to one as `model`. An extractor's
        `preprocess` and `device` are used.
    X : array-like or sequence of length n_samples, default=None
        Rows, of which the first 32 are run through the model, to find the shape of
        what each layer gives, and its place in time.

    Returns
    -------
    table : LayerTable
        One entry a layer; shows as a table.

    Notes
    -----
    Costs seven forward passes over at most 32 rows, and one over two or three. Inside
    scripted and exported models nothing can be recorded: their layers show no output.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_torch_bridge import layer_table
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh())
    >>> layer_table(model, np.ones((5, 4)))["0"].shape
    (5, 8)
    """
    given = isinstance(model, TorchFeatureExtractor)
    extractor = model if given else TorchFeatureExtractor(model)
    if X is None:
        module = load_model(extractor.model).module
        return LayerTable([_info(*named) for named in module.named_modules()])
    extraction = plan_extraction(extractor, X, reset=False)
    (inputs, n_rows), plan = extraction.first_batch(_MOST_ROWS), extraction.plan
    n_others = _OTHER_ROWS if n_rows != _OTHER_ROWS else _OTHER_ROWS + 1
    others = extraction.repeated_row(_MOST_ROWS, n_others)
    module = plan.loaded.module
    recorded = None
    while recorded is None:
        with (
            suppress(RunAgainError),  # with a replica that fits the model better
            replica(module, plan.request.device) as lent,
            torch.inference_mode(),
        ):
            looked = _shapes_of_layers(lent, others)
            recorded = _record_layers(lent, inputs)
    infos = []
    for name, part in module.named_modules():
        rows = _Rows(n_rows, n_others, looked.get(name))
        infos.append(_info(name, part, recorded.get(name), rows))
    return LayerTable(infos, n_rows)


def _shapes_of_layers(lent: Replica, inputs: Inputs) -> dict[str, Any]:
    """Return the shapes of what layers return, as far as the model takes a batch."""
    shapes: dict[str, Any] = {}

    def record(name: str, value: Any) -> None:
        shapes.setdefault(name, _shape_or_shapes(value))

    def run(given: Inputs) -> None:
        record("", lent.module(*given.args, **given.kwargs))

    handles = _hooks(lent.module, record)
    with suppress(Exception):  # it may take one number of rows alone
        # Values do not matter, so that rows stay together.
        lent.forwards.run(run, on_device(inputs, lent.place), 1)
    for handle in handles:
        handle.remove()
    return shapes


def _hooks(own: nn.Module, record: Callable[[str, Any], None]) -> list[Any]:
    """Have `record` called with the name of each submodule, and what it returns."""
    return [
        part.register_forward_hook(
            lambda _module, _args, value, name=name: record(name, value)
        )
        for name, part in own.named_modules()
        if name and not isinstance(part, torch.jit.ScriptModule)
    ]


def _record_layers(lent: Replica, inputs: Inputs) -> dict[str, Recorded]:
    """Run the model a few times; record what each layer returns, and when."""
    own, place, forwards = lent
    on_place = on_device(inputs, place)
    ends: dict[str, float] = {}
    shapes: dict[str, Any] = {}

    def record(name: str, value: Any) -> None:
        if name not in ends:
            if place.type != "cpu":
                torch.accelerator.synchronize()
            ends[name] = time.perf_counter()
            shapes.setdefault(name, _shape_or_shapes(value))

    def run(given: Inputs) -> None:
        record("", own(*given.args, **given.kwargs))

    _hooks(own, record)
    shares: dict[str, list[float]] = {}
    for repeat in range(_REPEATS + 1):  # one to warm up
        ends.clear()
        start = time.perf_counter()
        forwards.run(run, on_place, 1)  # values do not matter, so rows stay together
        whole = ends[""] - start
        if repeat:
            for name, end in ends.items():
                shares.setdefault(name, []).append((end - start) / whole)
    return {name: (shapes[name], shares[name]) for name in shares}


def _shape_or_shapes(value: Any) -> Any:
    """Return the shape of a tensor, that of each field, or the name of the type."""
    found = value
    with suppress(OutputError):  # several fields, then
        found = select_output(value)
    if isinstance(found, torch.Tensor):
        return tuple(found.shape)
    if not is_container(found):
        return type(found).__name__
    tensors = (one for one in iter_fields(found) if isinstance(one[1], torch.Tensor))
    return {name: tuple(tensor.shape) for name, tensor in tensors}


@dataclass(frozen=True)
class _Rows:
    """How many rows were run, and what the layer returned for another number."""

    n_rows: int = 0
    n_others: int = 0
    others: Any = None

    def axis(self, shape: tuple[int, ...], other: Any) -> int | None:
        """Return the axis of the rows; None if none follows their number."""
        if not isinstance(other, tuple):  # the model takes no other number of rows
            return plain_axis(shape, self.n_rows)
        axes = following_axes(shape, self.n_rows, other, self.n_others)
        return axes[0] if len(axes) == 1 else None

    def show(self, shape: tuple[int, ...], other: Any) -> str:
        """Write a shape, the rows as n.

        >>> _Rows(8, 2).show((4, 8, 8), (4, 2, 8))
        '(4, n, 8)'
        """
        axis = self.axis(shape, other)
        sizes = ["n" if place == axis else str(own) for place, own in enumerate(shape)]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _info(
    name: str,
    module: nn.Module,
    recorded: Recorded | None = None,
    rows: _Rows = _Rows(),
) -> LayerInfo:
    n_parameters = sum(one.numel() for one in module.parameters())
    class_name = getattr(module, "original_name", type(module).__name__)
    if recorded is None:
        return LayerInfo(name, class_name, n_parameters)
    found, ends = recorded
    share = float(np.median(ends))
    if isinstance(found, tuple):
        output, axis = rows.show(found, rows.others), rows.axis(found, rows.others)
        return LayerInfo(name, class_name, n_parameters, found, output, share, axis)
    output = str(found)
    if isinstance(found, dict):
        others = rows.others if isinstance(rows.others, dict) else {}
        output = ", ".join(
            f"{key}: {rows.show(shape, others.get(key))}"
            for key, shape in found.items()
        )
    return LayerInfo(name, class_name, n_parameters, None, output, share)
