"""Which axis of what a layer returns is the rows': it follows the number of rows.

Where a shape leaves that open, the layer is looked at with another number of rows. A
model that takes no other is given one row again and again: along the rows' axis, then,
nothing changes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from sklearn_torch_bridge._replica._channels_in_values import Call, channels_axis

__all__ = [
    "AS_IT_IS",
    "Look",
    "RowCountError",
    "channels_of_looks",
    "following_axes",
    "no_rows_axis",
    "plain_axis",
    "rows_axis",
    "rows_first",
]

AS_IT_IS = -1
"""No axis is the rows', and a callable of the caller's makes vectors."""

_EQUAL = 1e-4  # of the largest value: kernels may round equal rows differently


class RowCountError(ValueError):
    """There is no result for each row: one row alone might pass, and mean another."""


@dataclass(frozen=True)
class Look:
    """What a layer returned for one row, `n_rows` times, and the calls before it."""

    n_rows: int
    value: torch.Tensor
    mask: torch.Tensor | None = None
    calls: tuple[Call, ...] = ()


def plain_axis(shape: Sequence[int], n_rows: int) -> int | None:
    """Return the rows' axis where a shape leaves no doubt; None where it does.

    Of a single row the axes of size 1 do not matter, if all else is in one order.

    >>> plain_axis((9, 4), 9), plain_axis((9, 9), 9), plain_axis((1, 1, 4), 1)
    (0, None, 0)
    """
    axes = _axes_of_size(shape, n_rows)
    if axes[:1] != [0]:
        return None
    others = {(*shape[:axis], *shape[axis + 1 :]) for axis in axes}
    is_alike = n_rows == 1 and len(others) == 1
    return 0 if is_alike or len(axes) == 1 else None


def rows_axis(shape: Sequence[int], n_rows: int, look: Look | None) -> int | None:
    """Return the axis that follows the number of rows; None if none does, or two do."""
    axes = _axes_of_size(shape, n_rows)
    if look is not None and look.n_rows != n_rows:
        axes = following_axes(shape, n_rows, look.value.shape, look.n_rows)
    elif n_rows == 1:  # the model takes no two rows, so that none can be mixed
        return axes[0] if axes else None
    elif look is not None and look.value.shape == torch.Size(shape):
        axes = [axis for axis in axes if _is_one_row(look.value, axis)]
    else:
        return None
    return axes[0] if len(axes) == 1 else None


def following_axes(
    shape: Sequence[int], n_rows: int, other: Sequence[int], n_others: int
) -> list[int]:
    """Return the axes that follow the number of rows, by two shapes.

    >>> following_axes((9, 9, 4), 9, (9, 2, 4), 2)
    [1]
    """
    if len(other) != len(shape):
        return []
    axes = _axes_of_size(shape, n_rows)
    return [axis for axis in axes if other[axis] == n_others]


def no_rows_axis(shape: Sequence[int], n_rows: int, look: Look | None) -> RowCountError:
    """Return the error for a value whose rows cannot be told apart."""
    own, other = (tuple(shape), n_rows), (tuple(shape), n_rows)
    if look is not None:
        other = (tuple(look.value.shape), look.n_rows)
    named = " and ".join(
        f"{shape} for {n_rows} row{'s' * (n_rows != 1)}"
        for shape, n_rows in dict.fromkeys((own, other))
    )
    msg = f"the model must return one result per row, got shape {named}: "
    return RowCountError(msg + _reason(*own, *other))


def _reason(
    shape: tuple[int, ...], n_rows: int, other: tuple[int, ...], n_others: int
) -> str:
    """Return why shapes have no axis of rows, and what to do."""
    elsewhere = "Tap another `layer`, or choose another `output`."
    plain = f"no axis follows the number of rows. {elsewhere}"
    if n_others == n_rows or len(shape) != len(other):
        return plain
    sizes = list(enumerate(zip(shape, other, strict=True)))
    following = [str(axis) for axis, pair in sizes if pair == (n_rows, n_others)]
    if len(following) > 1:
        axes = " and ".join(following)
        return f"axes {axes} follow it, so that rows depend on each other. {elsewhere}"
    for axis, (size, less) in sizes:
        if shape != other and size * n_others == less * n_rows:
            return (
                f"axis {axis} has {size / n_rows:g} entries for each row (windows or "
                "heads, say). Give a callable `pooling`, which gets such a value as it "
                "is and returns one vector per row, or tap another `layer`."
            )
    return plain


def _axes_of_size(shape: Sequence[int], size: int) -> list[int]:
    return [axis for axis, own in enumerate(shape) if own == size]


def _is_one_row(value: torch.Tensor, axis: int) -> bool:
    """Return whether all entries along an axis are equal, up to rounding."""
    dtype = torch.complex128 if value.is_complex() else torch.float64
    numbers = value.detach().cpu().to(dtype)
    gap = (numbers - numbers.narrow(axis, 0, 1)).abs().max()
    return bool(gap <= _EQUAL * numbers.abs().max())


def rows_first(hidden: torch.Tensor, axis: int) -> torch.Tensor:
    """Move the axis of the rows to the front, if any is theirs."""
    return hidden if axis in (0, AS_IT_IS) else hidden.movedim(axis, 0)


def channels_of_looks(
    index: int,
    look: Look,
    rows: int,
    stretch: Callable[[], Sequence[Mapping[int, Look]]],
) -> int:
    """Return the axis of channels of a value, with the rows first, by looks at it."""

    def shape(look: Look) -> tuple[int, ...]:
        return tuple(rows_first(look.value, rows).shape)

    def longer() -> list[tuple[int, ...]]:
        return [shape(looks.get(index, look)) for looks in stretch()]

    return channels_axis(shape(look), look.calls, longer)
