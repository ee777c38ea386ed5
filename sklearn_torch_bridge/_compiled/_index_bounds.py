"""Check in compiled code that indices are in bounds, before they are used.

Kernels that `torch.compile` makes for the CPU check too, but end the process there: an
exception cannot leave their threads (torch 2.13). So each index that comes from a
batch first passes an operator of ours, which raises as the model itself would.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import Graph, Node

__all__ = ["check_bounds"]

_WHOLE_NUMBERS = frozenset(
    {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
)
_aten = torch.ops.aten


def check_bounds(graph: Graph) -> None:
    """Let each index into a tensor pass the check first; a pass of Inductor's."""
    given = _given(graph)
    for node in list(graph.nodes):
        for index, table, dim in list(_lookups(node)):
            if index in given:
                with graph.inserting_before(node):
                    checked = _checked(graph, index, table, dim, node)
                node.replace_input_with(index, checked)


def _given(graph: Graph) -> set[Node]:
    """Find the whole numbers that are computed from what the graph is given."""
    given: set[Node] = set()
    for node in graph.nodes:
        value = node.meta.get("val")
        whole = isinstance(value, torch.Tensor) and value.dtype in _WHOLE_NUMBERS
        if whole and (node.op == "placeholder" or given & set(node.all_input_nodes)):
            given.add(node)
    return given


def _lookups(node: Node) -> Iterator[tuple[Any, Any, Any]]:
    """Name the indices that a node uses, into which tensor, along which axis."""
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
    size = table.meta["val"].shape[dim]
    if not isinstance(size, int):
        symbol = size
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
    """Give a copy of `index`, or raise if it leads out of `size` places."""
    if index.numel():
        lowest, highest = (int(end) for end in index.aminmax())
        if lowest < (-size if counts_back else 0) or highest >= size:
            msg = (
                f"index out of range: {lowest} to {highest} into a tensor with {size} "
                "places."
            )
            raise IndexError(msg)
    return index.clone()
