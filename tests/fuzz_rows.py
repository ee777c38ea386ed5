"""Rows drawn for the fuzz: values in many forms, and what each row truly holds.

A row is drawn from plain numbers, which are the truth; what is handed to the package is
another form of them, or a form that has no truth (`None`): missing, freed, masked.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch.utils.data import Dataset

ARRAY_DTYPES = ["f4", "f8", "f2", ">f4", ">f8", "g", "i1", "i2", "i4", "i8", "u1", "u2"]
ARRAY_DTYPES += ["u4", "u8", ">i4", "?", "c8"]
TENSOR_DTYPES = ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32"]
TENSOR_DTYPES += ["int64", "uint8", "uint16", "uint32", "uint64", "bool", "complex64"]
TENSOR_DTYPES += ["float8_e4m3fn", "float8_e5m2"]
SHAPES = [(3,), (3,), (3,), (1,), (4,), (2, 3), (1, 2), (2, 2, 2), (3, 1, 2), (0,)]
MAYBE = {"shape", "empty", "scalar", "list", "shared", "sparse", "huge"}
FAULTS = ["nan", "inf", "None", "masked", "freed", "meta", "shape", "str", "object"]
FAULTS += ["huge", "empty", "scalar", "list", "sparse", "float nan", "set", "shared"]


ANY = "any"  # the truth of a row that may be taken or refused


@dataclasses.dataclass
class Drawn:
    """A row as it is given, and what it holds; None where it holds nothing usable."""

    given: Any
    truth: Any


class Draw:
    """Draws from a seed, and writes down what was drawn."""

    def __init__(self, seed, number):
        self.rng = np.random.default_rng([seed, number])
        self.words = []

    def one(self, name, choices):
        """Draw one of `choices`."""
        choices = list(choices)
        chosen = choices[int(self.rng.integers(len(choices)))]
        self.words.append(f"{name}={getattr(chosen, '__name__', chosen)}")
        return chosen

    def chance(self, name, share):
        """Draw whether something is so."""
        found = bool(self.rng.random() < share)
        if found:
            self.words.append(name)
        return found

    def numbers(self, shape, least):
        """Draw small whole numbers, which every dtype holds."""
        return self.rng.integers(least, 5, shape).astype(np.float64)


def _strided(array):
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 1] = array
    return wide[..., 1]


def _read_only(array):
    array.flags.writeable = False
    return array


ARRAY_LAYOUTS = {
    "plain": lambda a: a,
    "fortran": np.asfortranarray,
    "strided": _strided,
    "backwards": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "read-only": _read_only,
    "masked nowhere": lambda a: np.ma.array(a, mask=np.zeros(a.shape, bool)),
    "subclass": lambda a: a.view(np.recarray) if a.dtype.names else a,
}


def _wide(tensor):
    view = torch.zeros((*tensor.shape, 2), dtype=tensor.dtype)[..., 1]
    return view.copy_(tensor)


TENSOR_LAYOUTS = {
    "plain": lambda t: t,
    "strided": _wide,
    "gradient": lambda t: t.requires_grad_() if t.is_floating_point() else t,
    "negative": lambda t: torch._neg_view(-t) if t.dtype.is_floating_point else t,
    "parameter": lambda t: torch.nn.Parameter(t, requires_grad=False),
    "offset": lambda t: torch.cat([t[None], t[None]])[1],
}
_TINY = ("float8_e4m3fn", "float8_e5m2")


def form(draw, values, source, dtype):
    """Give plain numbers the form of one row."""
    if source == "lists":
        return (values.astype(int) if dtype == "int" else values).tolist()
    if source == "arrays":
        layout = ARRAY_LAYOUTS[draw.one("layout", ARRAY_LAYOUTS)]
        return layout(values.astype(dtype))
    tensor = torch.tensor(values).to(getattr(torch, dtype))
    if dtype in _TINY or tensor.is_complex():
        return tensor
    layout = draw.one("layout", TENSOR_LAYOUTS)
    if layout == "negative" and dtype.startswith("u"):
        layout = "plain"
    return TENSOR_LAYOUTS[layout](tensor)


def dtypes_of(source):
    """Return the dtypes that a source of rows may have."""
    named = {"arrays": ARRAY_DTYPES, "tensors": TENSOR_DTYPES}
    return named.get(source, ["int", "float"])


def least_of(dtype):
    """Return the least number that is drawn for a dtype."""
    unsigned = dtype.startswith("u") or dtype in ("?", "bool")
    return 0 if unsigned else -4


def spoilt(draw, row, shape, source):
    """Return a row that has some fault, and no truth."""
    fault = draw.one("fault", FAULTS)
    numbers = np.ones(shape)
    if fault in ("nan", "inf", "huge"):
        value = {"nan": np.nan, "inf": -np.inf, "huge": 1e300}[fault]
        numbers.flat[:1] = value
        if not numbers.size:
            return row
        as_given = {"lists": numbers.tolist(), "arrays": numbers}
        given = as_given.get(source, torch.tensor(numbers))
    else:
        given = _oddity(fault, numbers, row)
    unsure = fault in MAYBE or not numbers.size  # of no values none is missing
    return Drawn(given, ANY if unsure else None)


def _oddity(fault, numbers, row):
    if fault == "freed":
        tensor = torch.tensor(numbers)
        tensor.untyped_storage().resize_(0)
        return tensor
    made = {
        "None": lambda: None,
        "float nan": lambda: float("nan"),
        "masked": lambda: np.ma.array(numbers, mask=np.ones(numbers.shape, bool)),
        "meta": lambda: torch.empty(numbers.shape, device="meta"),
        "shape": lambda: np.ones((*numbers.shape, 2)),
        "str": lambda: "a text",
        "object": object,
        "empty": lambda: np.empty(0),
        "scalar": lambda: np.float64(1),
        "list": lambda: [[1.0], [2.0, 3.0]],
        "sparse": lambda: torch.tensor(numbers).to_sparse(),
        "set": lambda: {1.0, 2.0},
        "shared": lambda: [row.given, row.given],
    }
    return made[fault]()


class Rows(Dataset):
    """A Dataset of some rows, alone or with a target."""

    def __init__(self, rows, *, targets=False):
        self.rows = rows
        self.targets = targets

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        return (self.rows[place], place) if self.targets else self.rows[place]


def objects(rows):
    """Return a NumPy array of objects."""
    array = np.empty(len(rows), object)
    for place, row in enumerate(rows):
        array[place] = row
    return array


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "object array": objects,
    "object column": lambda rows: objects(rows)[:, None],
    "series": lambda rows: pd.Series(objects(rows), range(5, 5 + len(rows)), object),
    "frame": lambda rows: pd.DataFrame({"x": objects(rows)}, dtype=object),
    "dataset": Rows,
    "dataset with targets": lambda rows: Rows(rows, targets=True),
    "examples": lambda rows: [(row, place) for place, row in enumerate(rows)],
}


def whole(rows):
    """Put rows of one source into one array or tensor."""
    tensors = [row for row in rows if isinstance(row, torch.Tensor)]
    if tensors:
        if any(map(is_freed, tensors)):  # torch would read what is not there
            msg = "a row was freed"
            raise ValueError(msg)
        return torch.stack(rows)
    if any(isinstance(row, np.ma.MaskedArray) for row in rows):
        return np.ma.concatenate([row[None] for row in rows])
    return np.stack(rows)


def is_freed(tensor):
    """Return whether a tensor has values, and its memory has not."""
    is_strided = tensor.layout is torch.strided and not tensor.is_meta
    return is_strided and tensor.numel() > tensor.untyped_storage().nbytes()


def compressed(draw, table):
    """Return a sparse matrix, and whether its indices are sound."""
    make = draw.one("sparse", [sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix])
    matrix = make(table)
    if not draw.chance("broken", 0.2) or not matrix.nnz:
        return matrix, True
    how = draw.one("how", ["beyond", "negative", "pointer"])
    if how == "pointer" and hasattr(matrix, "indptr"):
        matrix.indptr[-1] += 5
        return matrix, False
    indices = matrix.indices if hasattr(matrix, "indices") else matrix.coords[1]
    indices[0] = 10**6 if how == "beyond" else -7
    return matrix, False
