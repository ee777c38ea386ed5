"""What the displays share: axes, colours, markers, and names that fit."""

from collections.abc import Sequence
from typing import Any, Self

from sklearn_torch_bridge._packages import import_optional

__all__ = [
    "COLORS",
    "GREY",
    "MARKERS",
    "Display",
    "inches_of",
    "most_letters",
    "name_ticks",
    "points_per_place",
    "short_names",
]

# Okabe and Ito 2008 without yellow, which is hard to see on white: distinct for readers
# with any colour vision. In grey print the markers are distinct.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"

_LONGEST, _SHORTEST = 32, 12  # limits of names, in letters
_SMALLEST, _LARGEST = 5.0, 10.0  # font sizes, in points
_LINE = 1.2  # height of a line, in font sizes
_POINTS_PER_INCH = 72
_SIDES = {"x": "width", "y": "height"}
_KEPT = 0.6  # share of the width that axes beside others keep for the picture
_INCHES_A_LETTER = 0.085


class Display:
    """A picture that `_draw` draws, on given axes or on those of a new figure."""

    def plot(self, ax: Any = None) -> Self:
        """Draw on the given axes, or on those of a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None creates a figure.

        Returns
        -------
        display : Display
            Itself, with `ax_` and `figure_`.
        """
        self._draw(ax)
        return self

    def _draw(self, ax: Any) -> None:
        raise NotImplementedError

    def _keep_axes(self, ax: Any, *, width: float, height: float) -> Any:
        """Return `ax`, or the axes of a new figure of this size in inches."""
        if ax is None:
            purpose = f"{type(self).__name__}.plot"
            plt = import_optional("matplotlib.pyplot", purpose=purpose)
            ax = plt.subplots(figsize=(width, height), layout="constrained")[1]
        self.ax_, self.figure_ = ax, ax.figure
        return ax


def inches_of(names: Sequence[str]) -> float:
    """Estimate the width of the longest of these names when drawn."""
    return _INCHES_A_LETTER * max(map(len, short_names(names)), default=0)


def _shorten(name: str, longest: int = _LONGEST) -> str:
    """Remove the middle of a long name.

    >>> _shorten("vision_model.encoder.layers.11.mlp", 20)
    'vision…layers.11.mlp'
    """
    if len(name) <= longest:
        return name
    head = longest // 3
    return f"{name[:head]}…{name[head + 1 - longest :]}"


def short_names(names: Sequence[str], longest: int = _LONGEST) -> list[str]:
    """Shorten the names if any is long; different names stay different.

    >>> short_names([f"vision_model.encoder.layers.{k}.mlp.output" for k in (7, 11)])
    ['…layers.7…', '…layers.11…']
    """
    if max(map(len, names), default=0) <= longest:
        return list(names)
    if len(set(names)) == 1:
        return [_shorten(name, longest) for name in names]
    parts = [name.split(".") for name in names]
    # Parts that all share are removed, but the last before the names differ stays.
    before = max(0, _n_shared(parts) - 1)
    after = _n_shared([own[before:][::-1] for own in parts])
    start, end = "…" * (before > 0), "…" * (after > 0)
    short = [start + ".".join(own[before : len(own) - after]) + end for own in parts]
    for found in ([_shorten(name, longest) for name in short], short):
        is_distinct = len(set(found)) == len(set(names))
        if is_distinct and all(name.strip("…") for name in found):
            return found
    return list(names)


def _n_shared(parts: Sequence[Sequence[str]]) -> int:
    """Count the first parts that all names share, without the last part of a name."""
    most = min(map(len, parts)) - 1
    shared = (len({own[k] for own in parts}) == 1 for k in range(most))
    return next((k for k, is_shared in enumerate(shared) if not is_shared), most)


def points_per_place(ax: Any, axis: str, n_places: int) -> float:
    """Measure the points that each of `n_places` on an axis has after layout."""
    ax.figure.canvas.figure.draw_without_rendering()
    inches = getattr(ax.get_window_extent(), _SIDES[axis]) / ax.figure.dpi
    cell = ax.get_subplotspec()
    if axis == "x" and cell is not None and cell.get_gridspec().ncols > 1:
        # The layout will use some of it for the names of the neighbouring axes.
        inches = min(inches, _KEPT * _cell_inches(ax, axis))
    return float(_POINTS_PER_INCH * inches / max(1, n_places))


def _cell_inches(ax: Any, axis: str) -> float:
    """Measure the grid cell of the axes in their figure, including margins."""
    cell, side = ax.get_subplotspec().get_position(ax.figure), _SIDES[axis]
    return float(getattr(cell, side) * getattr(ax.figure.bbox, side) / ax.figure.dpi)


def most_letters(ax: Any, axis: str) -> int:
    """Compute how many letters of a name leave half of the cell to the picture."""
    if ax.get_subplotspec() is None:
        return _LONGEST
    # Names of the x axis are vertical, those of the y axis horizontal.
    inches = _cell_inches(ax, "y" if axis == "x" else "x")
    return min(_LONGEST, max(_SHORTEST, int(inches / 2 / _INCHES_A_LETTER)))


def name_ticks(ax: Any, axis: str, names: Sequence[str]) -> None:
    """Write a name at each position, in smaller letters if there are many."""
    ticks = ax.set_xticks if axis == "x" else ax.set_yticks
    style = {"rotation": 90 if axis == "x" else 0, "parse_math": False}  # "$" is "$"
    short = short_names(names, most_letters(ax, axis))
    ticks(range(len(names)), short, fontsize=_LARGEST, **style)
    points = points_per_place(ax, axis, len(names))
    # If even the smallest letters would overlap, only some are named.
    step = max(1, int(-(-_SMALLEST * _LINE // points)))
    size = min(_LARGEST, max(_SMALLEST, points * step / _LINE))
    ticks(range(0, len(names), step), short[::step], fontsize=size, **style)
