"""What can be tapped: the layers of a model, with what they give and cost."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_torch_bridge._convert import is_container, iter_fields, select_output
from sklearn_torch_bridge._errors import OutputError
from sklearn_torch_bridge._estimators import TorchFeatureExtractor
from sklearn_torch_bridge._replica import replica
from sklearn_torch_bridge._rows import check_rows, make_feed
from sklearn_torch_bridge._run import on_device
from sklearn_torch_bridge._types import Feed, Indices, Inputs
from sklearn_torch_bridge.models import load_model

__all__ = ["LayerInfo", "LayerTable", "layer_table"]

_MOST_ROWS = 32
_REPEATS = 5
_HEAD = ("layer", "class", "output", "parameters", "time")


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
        gave one tensor. The first number is that of the rows that were run.
    output : str
        That output in words: of several fields, each with its shape.
    time_share : float or None
        From 0 to 1: when the first call had ended, as a share of the whole forward
        pass. Stopping there costs about as much.
    """

    name: str
    class_name: str
    n_parameters: int
    shape: tuple[int, ...] | None = None
    output: str = ""
    time_share: float | None = None


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
        head, body = self._cells()
        rows = [head, *body]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        right = {"parameters", "time"}
        lines = (
            "  ".join(
                cell.rjust(width) if name in right else cell.ljust(width)
                for name, cell, width in zip(head, row, widths, strict=True)
            ).rstrip()
            for row in rows
        )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, body = self._cells()
        rows = [_html_row("th", head), *(_html_row("td", row) for row in body)]
        return f"<table>{''.join(rows)}</table>"

    def _cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Give the cells of the table as text, without columns that say nothing."""
        ran = self.n_rows is not None
        keep = [ran or name not in ("output", "time") for name in _HEAD]
        body = [
            (
                layer.name or "(model)",
                layer.class_name,
                layer.output or "did not run",
                f"{layer.n_parameters:,}",
                "" if layer.time_share is None else f"{layer.time_share:.0%}",
            )
            for layer in self.layers
        ]
        head, *rows = [
            tuple(cell for cell, shown in zip(row, keep, strict=True) if shown)
            for row in (_HEAD, *body)
        ]
        return head, rows


def _html_row(tag: str, cells: tuple[str, ...]) -> str:
    inner = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inner}</tr>"


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
    Costs seven forward passes over at most 32 rows. Inside scripted and exported
    models nothing can be heard: their layers show no output.

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
    loaded = load_model(extractor.model)
    if X is None:
        return LayerTable([_info(*named) for named in loaded.module.named_modules()])
    checked = check_rows(extractor, X, reset=False)
    rows = checked.which_may_run()[:_MOST_ROWS]
    if not len(rows):
        msg = "`X` must hold a row that can be used, got none."
        raise ValueError(msg)
    feed = make_feed(checked, extractor, loaded, rows)
    inputs = feed.batch(_longest_first(feed))
    devices: Any = extractor.device
    device = devices[0] if isinstance(devices, (list, tuple)) else devices
    with replica(loaded.module, device) as (own, place), torch.inference_mode():
        heard = _listen(own, on_device(inputs, place), place)
    n_rows = _count_rows(inputs)
    return LayerTable(
        [
            _info(name, module, heard.get(name), n_rows)
            for name, module in loaded.module.named_modules()
        ],
        n_rows,
    )


def _longest_first(feed: Feed) -> Indices:
    """Give rows that may share a batch, in the order that batches have."""
    if feed.lengths is None:
        return np.arange(len(feed))
    order = np.argsort(-feed.lengths, kind="stable")
    longest = feed.lengths[order[0]]
    return order[feed.lengths[order] == longest] if feed.even else order


def _count_rows(inputs: Inputs) -> int:
    values = [*inputs.args, *inputs.kwargs.values()]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    nested = [
        one for value in values if isinstance(value, dict) for one in value.values()
    ]
    tensors += [value for value in nested if isinstance(value, torch.Tensor)]
    return len(tensors[0]) if tensors else 0


@dataclass
class _Heard:
    """What a layer gave in its first call, and when that had ended."""

    value: Any
    ends: list[float]


def _listen(own: nn.Module, inputs: Inputs, place: torch.device) -> dict[str, _Heard]:
    """Run the model a few times; note what each layer gives, and when, in shares."""
    ends: dict[str, float] = {}
    shapes: dict[str, Any] = {}

    def hear(name: str, value: Any) -> None:
        if name not in ends:
            if place.type != "cpu":
                torch.accelerator.synchronize()
            ends[name] = time.perf_counter()
            shapes.setdefault(name, _described(value))

    for name, part in own.named_modules():
        if name and not isinstance(part, torch.jit.ScriptModule):
            part.register_forward_hook(
                lambda _module, _args, value, name=name: hear(name, value)
            )
    shares: dict[str, list[float]] = {}
    for repeat in range(_REPEATS + 2):  # two to warm up
        ends.clear()
        start = time.perf_counter()
        hear("", own(*inputs.args, **inputs.kwargs))
        whole = ends[""] - start
        if repeat > 1:
            for name, end in ends.items():
                shares.setdefault(name, []).append((end - start) / whole)
    return {name: _Heard(shapes[name], shares[name]) for name in shares}


def _described(value: Any) -> Any:
    """Keep shapes alone: the shape of a tensor, or that of each field."""
    found = value
    with suppress(OutputError):  # several fields, then
        found = select_output(value)
    if isinstance(found, torch.Tensor):
        return tuple(found.shape)
    if is_container(found):
        return {
            name: tuple(item.shape)
            for name, item in iter_fields(found)
            if isinstance(item, torch.Tensor)
        }
    return type(found).__name__


def _info(
    name: str, module: nn.Module, heard: _Heard | None = None, n_rows: int = 0
) -> LayerInfo:
    n_parameters = sum(one.numel() for one in module.parameters())
    class_name = getattr(module, "original_name", type(module).__name__)
    if heard is None:
        return LayerInfo(name, class_name, n_parameters)
    found = heard.value
    if isinstance(found, tuple):
        shape, output = found, _show(found, n_rows)
    else:
        shape = None
        output = (
            ", ".join(f"{key}: {_show(one, n_rows)}" for key, one in found.items())
            if isinstance(found, dict)
            else str(found)
        )
    share = float(np.median(heard.ends))
    return LayerInfo(name, class_name, n_parameters, shape, output, share)


def _show(shape: tuple[int, ...], n_rows: int) -> str:
    """Write a shape, the rows as n.

    >>> _show((8, 4, 2), 8)
    '(n, 4, 2)'
    """
    sizes = [str(size) for size in shape]
    if shape and shape[0] == n_rows:
        sizes[0] = "n"
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
