"""What the pictures share: axes, colours, and names that fit."""

from collections.abc import Sequence
from typing import Any

from sklearn_torch_bridge._packages import import_optional

__all__ = [
    "COLORS",
    "GREY",
    "MARKERS",
    "axes_for",
    "inches_of",
    "letters_for",
    "name_ticks",
    "room",
    "short_names",
]

# Okabe and Ito 2008, less yellow, which is hard to see on white: told apart by readers
# with any colour vision. In grey the markers tell.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"

_LONGEST, _SHORTEST = 32, 12  # names, in letters
_SMALLEST, _LARGEST = 5.0, 10.0  # sizes of letters, in points
_LINE = 1.2  # height of a line, in sizes of its letters
_POINTS_PER_INCH = 72
_KEPT = 0.6  # of the width of axes beside others, for the picture
_INCHES_A_LETTER = 0.085


def axes_for(ax: Any, *, width: float, height: float, caller: str) -> Any:
    """Give `ax`, or the axes of a new figure of that many inches."""
    if ax is not None:
        return ax
    plt = import_optional("matplotlib.pyplot", purpose=f"{caller}.plot")
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def inches_of(names: Sequence[str]) -> float:
    """Estimate how wide the longest of these names is drawn."""
    return _INCHES_A_LETTER * max(map(len, short_names(names)), default=0)


def _shorten(name: str, longest: int = _LONGEST) -> str:
    """Leave out the middle of a long name.

    >>> _shorten("vision_model.encoder.layers.11.mlp", 20)
    'vision…layers.11.mlp'
    """
    if len(name) <= longest:
        return name
    head = longest // 3
    return f"{name[:head]}…{name[head + 1 - longest :]}"


def short_names(names: Sequence[str], longest: int = _LONGEST) -> list[str]:
    """Shorten names, if any is long, so that different ones stay different.

    >>> short_names([f"vision_model.encoder.layers.{k}.mlp.output" for k in (7, 11)])
    ['…layers.7…', '…layers.11…']
    """
    if max(map(len, names), default=0) <= longest:
        return list(names)
    if len(set(names)) == 1:
        return [_shorten(name, longest) for name in names]
    parts = [name.split(".") for name in names]
    # What all share tells nothing; the last part of it stays, to say what is counted.
    before = max(0, _n_shared(parts) - 1)
    after = _n_shared([own[before:][::-1] for own in parts])
    short = [
        "…" * (before > 0)
        + ".".join(own[before : len(own) - after])
        + "…" * (after > 0)
        for own in parts
    ]
    for found in ([_shorten(name, longest) for name in short], short):
        if len(set(found)) == len(set(names)) and all(
            name.strip("…") for name in found
        ):
            return found
    return list(names)


def _n_shared(parts: Sequence[Sequence[str]]) -> int:
    """Count the first parts that all names share, but for the last of a name."""
    most = min(map(len, parts)) - 1
    shared = (len({own[k] for own in parts}) == 1 for k in range(most))
    return next((k for k, is_shared in enumerate(shared) if not is_shared), most)


def room(ax: Any, axis: str, n_places: int) -> float:
    """Measure how many points each of `n_places` along an axis has, once laid out."""
    ax.figure.canvas.figure.draw_without_rendering()
    box = ax.get_window_extent()
    pixels = box.width if axis == "x" else box.height
    points = _POINTS_PER_INCH * pixels / ax.figure.dpi
    place = ax.get_subplotspec()
    if axis == "x" and place is not None and place.get_gridspec().ncols > 1:
        # The layout will take some of it when the neighbours get names of their own.
        points = min(points, _KEPT * _POINTS_PER_INCH * _inches_of_place(ax, axis))
    return float(points / max(1, n_places))


def _inches_of_place(ax: Any, axis: str) -> float:
    """Measure the place of the axes in the grid of their figure, margins included."""
    share = ax.get_subplotspec().get_position(ax.figure)
    whole = ax.figure.bbox
    pixels = share.width * whole.width if axis == "x" else share.height * whole.height
    return float(pixels / ax.figure.dpi)


def letters_for(ax: Any, axis: str) -> int:
    """Count the letters of a name that leave half of its place to the picture."""
    if ax.get_subplotspec() is None:
        return _LONGEST
    # The names of the x axis run down, those of the y axis to the left.
    inches = _inches_of_place(ax, "y" if axis == "x" else "x")
    return min(_LONGEST, max(_SHORTEST, int(inches / 2 / _INCHES_A_LETTER)))


def name_ticks(ax: Any, axis: str, names: Sequence[str]) -> None:
    """Write a name at each position, smaller where many share the axis."""
    ticks = ax.set_xticks if axis == "x" else ax.set_yticks
    rotation = 90 if axis == "x" else 0
    short = short_names(names, letters_for(ax, axis))
    style = {"rotation": rotation, "parse_math": False}  # a "$" is one
    ticks(range(len(names)), short, fontsize=_LARGEST, **style)
    points = room(ax, axis, len(names))
    # Where even the smallest letters would overlap, only some are named.
    step = max(1, int(-(-_SMALLEST * _LINE // points)))
    size = min(_LARGEST, max(_SMALLEST, points * step / _LINE))
    ticks(range(0, len(names), step), short[::step], fontsize=size, **style)
