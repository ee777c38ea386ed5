"""Rows of the fuzz that no array holds: pictures, paths, and what holds no rows."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests import fuzz_rows as of

COLOURS = [(0, 0, 0), (255, 255, 255), (10, 20, 30), (200, 100, 50)]
PICTURES = ["RGB", "RGB", "L", "P", "1", "LA", "RGBA", "array", "path", "str path"]
UNSURE = ["see-through", "I;16", "I", "F", "CMYK"]
NO_PICTURES = ["missing file", "broken file", "empty file", "None", "number"]


class Pixels(nn.Module):
    """The mean of each channel."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, pixel_values):
        return pixel_values.flatten(2).mean(-1) * self.scale


@functools.cache
def processor():
    """Return an image processor of transformers, without torchvision."""
    import transformers

    name = "ViTImageProcessorPil"
    kind = getattr(transformers, name, transformers.ViTImageProcessor)
    return kind(size={"height": 4, "width": 4})


@functools.cache
def _folder():
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def picture(draw):
    """Draw a picture of one colour, or what is none; its truth is by hand."""
    from PIL import Image

    kind = draw.one("picture", PICTURES * 2 + UNSURE + NO_PICTURES)
    colour = draw.one("colour", COLOURS)
    width = draw.one("width", [1, 3, 5])
    if kind in NO_PICTURES:
        return of.Drawn(_no_picture(kind), None)
    if kind in ("L", "1", "LA", "I;16", "I", "F"):
        colour = (255, 255, 255) if sum(colour) > 300 else (0, 0, 0)
    image = Image.new("RGB", (width, 4), colour)
    truth = np.array(colour) / 127.5 - 1
    if kind in UNSURE:
        source = image.convert("L") if kind in ("I;16", "I", "F") else image
        made = Image.new("RGBA", (width, 4), (*colour, 100))
        return of.Drawn(made if kind == "see-through" else source.convert(kind), of.ANY)
    if "path" in kind:
        path = _folder() / f"{colour}-{width}.png"
        image.save(path)
        return of.Drawn(str(path) if kind == "str path" else path, truth)
    made = {
        "array": lambda: np.asarray(image),
        "P": lambda: image.convert("P", palette=Image.Palette.ADAPTIVE),
    }
    return of.Drawn(made.get(kind, lambda: image.convert(kind))(), truth)


def _no_picture(kind):
    if kind in ("None", "number"):
        return {"None": None, "number": 3}[kind]
    path = _folder() / f"{kind}.png"
    if kind == "broken file":
        path.write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    if kind == "empty file":
        path.write_bytes(b"")
    return path


def _holding_itself():
    rows = [1.0]
    rows.append(rows)
    return rows


def _freed():
    tensor = torch.ones(3, 2)
    tensor.untyped_storage().resize_(0)
    return tensor


ODD = {
    "number": lambda: 3.5,
    "text": lambda: "abc",
    "bytes": lambda: b"abc",
    "set": lambda: {1, 2},
    "generator": lambda: (row for row in [[1.0]]),
    "zero axes": lambda: np.float64(2),
    "zero axes of torch": lambda: torch.tensor(2.0),
    "None": lambda: None,
    "None among rows": lambda: [None, None],
    "complex": lambda: np.ones((2, 2), complex),
    "dates": lambda: np.array([["2020-01-01"]], "M8[D]"),
    "structured": lambda: np.zeros(3, [("a", float), ("b", int)]),
    "deep": lambda: [[[[[[1.0]]]]]],
    "meta": lambda: torch.empty(2, 2, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2, 2), 1, 0, torch.qint8),
    "sparse": lambda: torch.ones(2, 2).to_sparse(),
    "sparse rows": lambda: [torch.ones(2).to_sparse()] * 2,
    "module": lambda: nn.Linear(1, 1),
    "type": lambda: float,
    "empty mapping": dict,
    "mapping of lists": lambda: {"x": [[1.0], [2.0, 3.0]]},
    "rows of mappings": lambda: [{"x": 1.0}, {"x": 2.0}],
    "overlapping": lambda: torch.ones(1).expand(3, 2),
    "itself": _holding_itself,
    "range": lambda: range(4),
    "memory": lambda: memoryview(np.ones((2, 2))),
    "freed": _freed,
    "nested and freed": lambda: [[_freed(), _freed()], [_freed(), _freed()]],
    "matrix": lambda: np.asmatrix(np.ones((2, 2))),
}
