"""Check in compiled code that indices are in bounds, before they are used.

Kernels of `torch.compile` for the CPU check too, but end the process: an exception
cannot leave their threads (torch 2.13). So each index that comes from a batch first
passes an operator of ours, which raises as the model itself would.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import Graph, Node

__all__ = ["check_bounds"]

_INTEGERS = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
_aten = torch.ops.aten


def check_bounds(graph: Graph) -> None:
    """Insert a check before each use of an index; a pass of Inductor's."""
    integers = _input_integers(graph)
    for node in list(graph.nodes):
        for index, table, dim in list(_lookups(node)):
            if index in integers:
                with graph.inserting_before(node):
                    checked = _checked(graph, index, table, dim, node)
                node.replace_input_with(index, checked)


def _input_integers(graph: Graph) -> set[Node]:
    """Return the nodes of integers that are computed from the inputs of the graph."""
    found: set[Node] = set()
    for node in graph.nodes:
        value = node.meta.get("val")
        is_integer = isinstance(value, torch.Tensor) and value.dtype in _INTEGERS
        if is_integer and (node.op == "placeholder" or found & {*node.all_input_nodes}):
            found.add(node)
    return found


def _lookups(node: Node) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the indices that a node uses, the tensor and the axis that they index."""
    args: Any = node.args
    if node.target is _aten.embedding.default:
        yield args[1], args[0], 0
    elif node.target is _aten.gather.default:
        yield args[2], args[0], args[1]
    elif node.target is _aten.index.Tensor:
        for dim, index in enumerate(args[1]):
            if index is not None:
                yield index, args[0], dim


def _checked(graph: Graph, index: Node, table: Node, dim: int, user: Node) -> Node:
    size = symbol = table.meta["val"].shape[dim]
    if not isinstance(size, int):
        size = graph.call_function(_aten.sym_size.int, (table, dim))
        size.meta["val"] = symbol
    counts_back = user.target is _aten.index.Tensor  # as x[-1] does
    checked = graph.call_function(_operator(), (index, size, counts_back))
    checked.meta["val"] = index.meta["val"]
    return checked


@functools.cache
def _operator() -> Any:
    """Register the check with PyTorch, once."""
    name = "sklearn_torch_bridge::in_bounds"
    in_bounds = torch.library.custom_op(name, _in_bounds, mutates_args=())
    in_bounds.register_fake(lambda index, *_: torch.empty_like(index))
    return torch.ops.sklearn_torch_bridge.in_bounds.default


def _in_bounds(index: torch.Tensor, size: int, counts_back: bool) -> torch.Tensor:
    """Return a copy of `index`, or raise if it is out of `size` places."""
    if index.numel():
        lowest, highest = (int(end) for end in index.aminmax())
        if lowest < (-size if counts_back else 0) or highest >= size:
            which = f"{lowest} to {highest} into a tensor with {size} places"
            msg = f"index out of range: {which}."
            raise IndexError(msg)
    return index.clone()
