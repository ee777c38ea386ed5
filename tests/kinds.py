"""Every kind of tensor and container, and what `to_numpy` must make of it.

The one table that `tests/convert/test_to_numpy.py` checks, each kind in a process of
its own, and from which the table in ``docs/conversion.md`` is rendered. After a change
here::

    python -m tests.kinds --write
"""

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from sklearn_torch_bridge import to_numpy

PAGE = Path(__file__).parents[1] / "docs" / "conversion.md"
START, END = "<!-- table: start -->", "<!-- table: end -->"
TIMEOUT_SECONDS = 120
SLOW_TO_IMPORT = ["torch._subclasses.fake_tensor", "torch.masked"]
if torch.distributed.is_available():
    SLOW_TO_IMPORT.append("torch.distributed.tensor")

VALUES = [[1, 2, 0], [0, -3, 4]]
POSITIVE = [[1, 2, 0], [0, 3, 4]]
BITS = [[True, False], [False, True]]
BLOCKS = [[1, 2, 0, 0], [3, -4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What comes, and what must come back: values, or an error with this `message`."""

    section: str
    name: str
    make: Callable[[], Any]
    dtype: str = ""
    values: Any = None
    form: str = "ndarray"
    error: str = ""
    message: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    needs: str = ""

    @property
    def is_missing(self):
        """Check whether this torch lacks what the kind `needs`."""
        return bool(self.needs) and not hasattr(torch, self.needs)


KINDS: list[Kind] = []


def kind(section, name, **outcome):
    """Enter the function that makes this kind into the table."""

    def enter(make):
        KINDS.append(Kind(section, name, make, **outcome))
        return make

    return enter


def gives(section, name, make, dtype, values=VALUES, **more):
    KINDS.append(Kind(section, name, make, dtype=dtype, values=values, **more))


def refuses(section, name, make, message, error="ConversionError", **more):
    KINDS.append(Kind(section, name, make, error=error, message=message, **more))


def base(dtype=torch.float32, values=VALUES):
    return torch.tensor(values, dtype=torch.float32).to(dtype)


# --- dtypes

_NO_SIGN = {"uint8", "uint16", "uint32", "uint64"}
for _name in ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]:
    _values = POSITIVE if _name in _NO_SIGN else VALUES
    gives(
        "dtype",
        f"torch.{_name}",
        lambda n=_name, v=_values: torch.tensor(v).to(getattr(torch, n)),
        _name,
        _values,
    )
gives("dtype", "torch.bool", lambda: torch.tensor(BITS), "bool", BITS)
for _name in ["float32", "float64"]:
    gives("dtype", f"torch.{_name}", lambda n=_name: base(getattr(torch, n)), _name)
for _name in [
    *("float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz"),
    *("float8_e5m2", "float8_e5m2fnuz"),
]:
    gives("dtype", f"torch.{_name}", lambda n=_name: base(getattr(torch, n)), "float32")
gives(
    "dtype",
    "torch.float8_e8m0fnu",
    lambda: torch.tensor([1.0, 4.0]).to(torch.float8_e8m0fnu),
    "float32",
    [1, 4],
    needs="float8_e8m0fnu",
)
gives(
    "dtype",
    "torch.float16, `dtype='float16'`",
    lambda: base(torch.float16),
    "float16",
    options={"dtype": "float16"},
)
for _name in ["int4", "uint4", "int1", "uint1", "bits8", "float4_e2m1fn_x2"]:
    refuses(
        "dtype",
        f"torch.{_name}",
        lambda n=_name: torch.zeros(2, dtype=torch.uint8).view(getattr(torch, n)),
        "unpack it to torch.int8 or torch.uint8",
        needs=_name,
    )
for _name in ["complex32", "complex64", "complex128"]:
    refuses(
        "dtype",
        f"torch.{_name}",
        lambda n=_name: torch.zeros(2, dtype=getattr(torch, n)),
        "ask for dtype='complex64' or 'complex128'",
    )
    gives(
        "dtype",
        f"torch.{_name}, `dtype='complex128'`",
        lambda n=_name: torch.tensor([1 + 2j, 3]).to(getattr(torch, n)),
        "complex128",
        [[1, 2], [3, 0]],
        options={"dtype": "complex128"},
    )
refuses(
    "dtype",
    "a value that `dtype` cannot hold",
    lambda: torch.tensor([1e300], dtype=torch.float64),
    "`dtype` must hold every value",
    error="ValueError",
    options={"dtype": "float32"},
)
refuses(
    "dtype",
    "NaN for an integer `dtype`",
    lambda: torch.tensor([float("nan")]),
    "NaN or infinity has no place",
    error="ValueError",
    options={"dtype": "int64"},
)
refuses(
    "dtype",
    "a fraction for an integer `dtype`",
    lambda: torch.tensor([0.5]),
    "has a fraction",
    error="ValueError",
    options={"dtype": "int64"},
)


# --- gradients and lazy bits

gives("autograd", "requires_grad", lambda: base().requires_grad_(), "float32")
gives("autograd", "result of a graph", lambda: base().requires_grad_() * 1, "float32")
gives("autograd", "Parameter", lambda: torch.nn.Parameter(base()), "float32")
gives("autograd", "Buffer", lambda: torch.nn.Buffer(base()), "float32")


@kind("autograd", "inference tensor", dtype="float32", values=VALUES)
def inference():
    with torch.inference_mode():
        return base()


@kind("autograd", "forward-mode dual tensor", dtype="float32", values=VALUES)
def dual():
    torch.autograd.forward_ad.enter_dual_level()  # left open: the process ends
    return torch.autograd.forward_ad.make_dual(base(), base())


gives(
    "autograd",
    "conjugate bit, `dtype='complex64'`",
    lambda: torch.tensor([1 + 2j, 3], dtype=torch.complex64).conj(),
    "complex64",
    [[1, -2], [3, 0]],
    options={"dtype": "complex64"},
)
gives(
    "autograd",
    "negative bit",
    lambda: torch.complex(base() * 0, base() * -1).conj().imag,
    "float32",
)
gives(
    "autograd",
    "negative bit, contiguous float16",
    lambda: torch._neg_view(-base(torch.float16)),
    "float32",
)
gives(
    "autograd",
    "zero tensor without memory",
    lambda: torch._efficientzerotensor((1, 2)),
    "float32",
    [[0, 0]],
)


# --- layout and strides

gives("layout", "transposed", lambda: base().T.contiguous().T, "float32")
gives(
    "layout",
    "every second column",
    lambda: torch.tensor([[1.0, 9, 2, 9, 0], [0, 9, -3, 9, 4]])[:, ::2],
    "float32",
)
gives(
    "layout",
    "view with an offset",
    lambda: torch.cat([base(), base()])[2:],
    "float32",
)
gives("layout", "expanded", lambda: base()[:1].expand(2, 3), "float32", VALUES[:1] * 2)
gives(
    "layout",
    "overlapping (unfold)",
    lambda: torch.tensor([1.0, 2, 0]).unfold(0, 2, 1),
    "float32",
    [[1, 2], [2, 0]],
)
gives(
    "layout",
    "channels_last",
    lambda: base().reshape(1, 3, 2, 1).to(memory_format=torch.channels_last),
    "float32",
    np.reshape(VALUES, (1, 3, 2, 1)).tolist(),
)
gives("layout", "no axes", lambda: torch.tensor(2.5), "float32", 2.5)
gives("layout", "no rows", lambda: base()[:0], "float32", [])
gives("layout", "shared memory", lambda: base().share_memory_(), "float32")
gives(
    "layout",
    "quantized, per tensor",
    lambda: torch.quantize_per_tensor(base(), 0.5, 0, torch.qint8),
    "float32",
)
gives(
    "layout",
    "quantized, per channel",
    lambda: torch.quantize_per_channel(
        base(), torch.tensor([0.5, 1.0]), torch.tensor([0, 0]), 0, torch.qint8
    ),
    "float32",
)
gives("layout", "mkldnn", lambda: base().to_mkldnn(), "float32")
gives(
    "layout",
    "nested, equal shapes",
    lambda: torch.nested.nested_tensor(list(base())),
    "float32",
)
gives(
    "layout",
    "nested and jagged, equal shapes",
    lambda: torch.nested.nested_tensor(list(base()), layout=torch.jagged),
    "float32",
)
for _name in ["strided", "jagged"]:
    refuses(
        "layout",
        f"nested ({_name}), ragged",
        lambda n=_name: torch.nested.nested_tensor(
            [torch.ones(2), torch.ones(3)], layout=getattr(torch, n)
        ),
        "torch.nested.to_padded_tensor",
    )


# --- sparse

gives("sparse", "COO", lambda: base().to_sparse(), "float32", form="csr_array")


@kind(
    *("sparse", "COO, not coalesced, float16"),
    dtype="float32",
    values=[[0, 120000]],
    form="csr_array",
)
def uncoalesced():
    values = torch.tensor([60000.0, 60000.0], dtype=torch.float16)
    return torch.sparse_coo_tensor(torch.tensor([[0, 0], [1, 1]]), values, (1, 2))


gives("sparse", "CSR", lambda: base().to_sparse_csr(), "float32", form="csr_array")
gives("sparse", "CSC", lambda: base().to_sparse_csc(), "float32", form="csc_array")
for _name in ["bsr", "bsc"]:
    gives(
        "sparse",
        _name.upper(),
        lambda n=_name: getattr(base(values=BLOCKS), f"to_sparse_{n}")((2, 2)),
        "float32",
        BLOCKS,
        form="csr_array",
    )
gives(
    "sparse",
    "CSR of bfloat16",
    lambda: base(torch.bfloat16).to_sparse_csr(),
    "float32",
    form="csr_array",
)
gives(
    "sparse",
    "COO, no entries",
    lambda: torch.zeros(1, 2).to_sparse(),
    "float32",
    [[0, 0]],
    form="csr_array",
)
gives(
    "sparse",
    "COO with gradient",
    lambda: base().to_sparse().requires_grad_(),
    "float32",
    form="csr_array",
)


@kind("sparse", "CSR, invalid indices", error="ValueError", message="invalid indices")
def broken_csr():
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        starts, columns = torch.tensor([0, 1]), torch.tensor([7])
        return torch.sparse_csr_tensor(starts, columns, torch.ones(1), (1, 3))


@kind(
    *("sparse", "COO, an index beyond int32"),
    error="ValueError",
    message="invalid indices",
)
def broken_coo():
    indices = torch.tensor([[0], [2**32 + 1]])
    return torch.sparse_coo_tensor(
        indices, torch.ones(1), (1, 3), check_invariants=False
    )


@kind("sparse", "BSC, invalid indices", error="ValueError", message="invalid indices")
def broken_bsc():
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        starts, rows = torch.tensor([0, 1]), torch.tensor([9])
        return torch.sparse_bsc_tensor(starts, rows, torch.ones(1, 2, 2), (2, 2))


refuses(
    "sparse",
    "three axes",
    lambda: torch.ones(2, 2, 2).to_sparse(),
    "takes sparse data of two dimensions",
)
refuses("sparse", "one axis", lambda: torch.ones(2).to_sparse(), "call .to_dense()")
refuses(
    "sparse",
    "hybrid, one axis dense",
    lambda: torch.ones(2, 2).to_sparse(1),
    "1 of them dense",
)
refuses(
    "sparse",
    "CSR, batched",
    lambda: torch.ones(2, 2, 2).to_sparse_csr(),
    "takes sparse data of two dimensions",
)


# --- no values to be had

refuses("absent", "meta", lambda: torch.ones(2, device="meta"), "no values")


@kind("absent", "fake tensor", error="ConversionError", message="no values")
def fake():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.ones(2)


refuses(
    "absent",
    "lazy parameter",
    lambda: torch.nn.LazyLinear(2).weight,
    "Run one forward pass first",
)
refuses(
    "absent",
    "lazy buffer",
    lambda: torch.nn.LazyBatchNorm1d().running_mean,
    "Run one forward pass first",
)


def freed(n_bytes, *, transposed=False):
    tensor = torch.ones(2, 3)
    view = tensor.T if transposed else tensor
    tensor.untyped_storage().resize_(n_bytes)
    return view


refuses("absent", "freed storage", lambda: freed(0), "storage holds 0")
refuses("absent", "shrunk storage", lambda: freed(20), "storage holds 20")
refuses(
    "absent",
    "shrunk storage, strided",
    lambda: freed(20, transposed=True),
    "storage holds 20",
)


# --- transforms, modes and subclasses


def inside(transform, convert):
    """Convert inside of a torch.func transform: the error leaves through it."""
    transform(lambda x: (convert(x), x.sum())[1])(torch.ones(2))


@dataclasses.dataclass
class Inside:
    """Something to be converted from inside a transform or mode."""

    run: Callable[[Callable[[Any], Any]], Any]


for _name in ["vmap", "grad", "functionalize"]:
    refuses(
        "transform",
        f"inside torch.func.{_name}",
        lambda n=_name: Inside(lambda f: inside(getattr(torch.func, n), f)),
        "torch.func transform",
    )


@kind(
    "transform", "inside torch.func.jvp", error="ConversionError", message="torch.func"
)
def inside_jvp():
    def run(convert):
        torch.func.jvp(lambda x: (convert(x), x)[1], (torch.ones(2),), (torch.ones(2),))

    with contextlib.suppress(TypeError):  # the first call compiles, and warns of it
        Inside(run).run(len)
    return Inside(run)


@kind(
    "transform", "outer tensor inside torch.func.grad", dtype="float32", values=VALUES
)
def outer_in_grad():
    outer = base()
    got = []
    return Inside(
        lambda f: (inside(torch.func.grad, lambda _: got.append(f(outer))), got[0])[1]
    )


refuses(
    "transform",
    "functional tensor",
    lambda: torch._to_functional_tensor(torch.ones(2)),
    "torch.func transform",
)


@kind("transform", "real tensor in a fake mode", dtype="float32", values=VALUES)
def in_fake_mode():
    from torch._subclasses.fake_tensor import FakeTensorMode

    def run(convert):
        outer = base()
        with FakeTensorMode():
            return convert(outer)

    return Inside(run)


@kind("transform", "under torch.device('meta')", dtype="float32", values=VALUES)
def in_meta_device():
    def run(convert):
        outer = base()
        with torch.device("meta"):
            return convert(outer)

    return Inside(run)


class Plain(torch.Tensor):
    """A subclass that only carries a type, as tv_tensors do."""


class Packed(torch.Tensor):
    """A subclass that unpacks itself, as torchao's do."""

    def dequantize(self):
        return base()


gives("subclass", "plain subclass", lambda: base().as_subclass(Plain), "float32")
gives(
    "subclass",
    "subclass with its own dequantize()",
    lambda: torch.zeros(1).as_subclass(Packed),
    "float32",
)


@kind(
    "subclass", "__torch_dispatch__", error="ConversionError", message="not its value"
)
def dispatching():
    from torch.testing._internal.two_tensor import TwoTensor

    return TwoTensor(torch.ones(2), torch.ones(2))


@kind("subclass", "MaskedTensor", error="ConversionError", message="lose its mask")
def masked():
    return torch.masked.masked_tensor(torch.ones(2), torch.tensor([True, False]))


def one_process():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)


@kind("subclass", "DTensor", error="ConversionError", message=".full_tensor()")
def dtensor():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, distribute_tensor

    one_process()
    return distribute_tensor(
        torch.ones(2), init_device_mesh("cpu", (1,)), [Replicate()]
    )


@kind("subclass", "AsyncCollectiveTensor", dtype="float32", values=VALUES)
def collective():
    from torch.distributed import _functional_collectives as collectives

    one_process()
    return collectives.all_reduce(base(), "sum", torch.distributed.group.WORLD)


# --- containers


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor


def objects(rows):
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


def pandas_series():
    import pandas as pd

    return pd.Series(list(base()))


def polars_series():
    import polars as pl

    return pl.Series(values=list(base()), dtype=pl.Object)


def pandas_frame():
    import pandas as pd

    return pd.DataFrame({"a": [1, 0], "b": [2, -3], "c": [0, 4]})


CHOOSE = "choose one of them with `output`"
gives("container", "list of rows", lambda: list(base()), "float32")
gives("container", "list of batches", lambda: list(base().split(1)), "float32")
gives("container", "list of scalars", lambda: list(base()[1]), "float32", VALUES[1])
gives(
    "container",
    "list of rows with gradient, of mixed half types",
    lambda: [base()[0].requires_grad_().bfloat16(), base()[1].half()],
    "float32",
)
gives(
    "container",
    "list of a tensor and an array",
    lambda: [base()[0], np.array([0.0, -3, 4])],
    "float64",
)
gives("container", "list of numbers", lambda: VALUES, "int64")
gives("container", "tuple of rows", lambda: tuple(base()), "float32")
gives("container", "tuple of one", lambda: (base(),), "float32")
gives("container", "object array of rows", lambda: objects(list(base())), "float32")
gives("container", "pandas Series of rows", pandas_series, "float32")
gives("container", "polars Series of rows", polars_series, "float32")
gives("container", "pandas DataFrame", pandas_frame, "int64")
gives("container", "ndarray, float16", lambda: np.float16(VALUES), "float32")
gives("container", "ndarray, big-endian", lambda: np.array(VALUES, ">f8"), "float64")
gives(
    "container",
    "SciPy sparse",
    lambda: sp.coo_array(np.float32(VALUES)),
    "float32",
    form="csr_array",
)
gives(
    "container",
    "mapping with `last_hidden_state`",
    lambda: {"loss": torch.ones(()), "last_hidden_state": base()},
    "float32",
)
gives(
    "container",
    "mapping, `output='a'`",
    lambda: {"a": base(), "b": base()},
    "float32",
    options={"output": "a"},
)
gives(
    "container",
    "list of mappings, `output='a'`",
    lambda: [{"a": row[None]} for row in base()],
    "float32",
    options={"output": "a"},
)
gives(
    "container",
    "torch.return_types, `output='values'`",
    lambda: base().sort(dim=0),
    "float32",
    [[0, -3, 0], [1, 2, 4]],
    options={"output": "values"},
)
refuses(
    "container",
    "ragged list",
    lambda: [torch.ones(2), torch.ones(2), torch.ones(3)],
    "row 2 has (3,)",
    error="ValueError",
)
refuses(
    "container",
    "ragged list of numbers",
    lambda: [[1, 2], [3]],
    "row 1 has 1",
    error="ValueError",
)
refuses(
    "container",
    "list of tensors of three axes",
    lambda: [torch.ones(1, 2, 3)] * 2,
    "Call torch.stack(rows) or torch.cat(batches)",
)
refuses("container", "list of sparse", lambda: [base().to_sparse()], "Call .to_dense()")
refuses("container", "mapping", lambda: {"a": base()}, CHOOSE, error="OutputError")
refuses(
    "container",
    "tuple of outputs",
    lambda: (base(), base()),
    CHOOSE,
    error="OutputError",
)
refuses(
    "container", "NamedTuple", lambda: Pair(base(), base()), CHOOSE, error="OutputError"
)
refuses(
    "container",
    "dataclass",
    lambda: Output(base(), base()),
    CHOOSE,
    error="OutputError",
)
refuses(
    "container",
    "torch.return_types",
    lambda: base().max(0),
    CHOOSE,
    error="OutputError",
)
refuses(
    "container",
    "PackedSequence",
    lambda: torch.nn.utils.rnn.pack_sequence([torch.ones(2)]),
    "pad_packed_sequence",
)
refuses(
    "container",
    "masked array",
    lambda: np.ma.masked_equal([1, 2], 2),
    "mask would be lost",
)


def broken_scipy():
    matrix = sp.csr_array(np.float32(VALUES))
    matrix.indices[1] = 7
    return matrix


refuses(
    "container",
    "masked array in a list",
    lambda: [np.ones(2), np.ma.masked_equal([1, 2], 2)],
    "row 1 of a list cannot be converted: it has masked values",
)
refuses(
    "container",
    "lists of freed tensors",
    lambda: [[freed(0)], [freed(0)]],
    "row 0 is a tensor whose memory was freed",
)
refuses(
    "container",
    "SciPy's CSR, invalid indices",
    broken_scipy,
    "has invalid indices: row 0 has the column 7, of 3",
    error="ValueError",
)
refuses("container", "text", lambda: "text", "Turn text into numbers")
refuses("container", "list of text", lambda: ["a", "b"], "holds no plain numbers")
refuses("container", "object array", lambda: np.array([{}, {}]), "no plain numbers")
refuses("container", "None", lambda: None, "returned by mistake")
refuses("container", "generator", lambda: (row for row in base()), "list() first")
refuses("container", "Module", lambda: torch.nn.Linear(1, 1), "Call it on data")
refuses(
    "container",
    "Distribution",
    lambda: torch.distributions.Normal(0.0, 1.0),
    "Convert a sample",
)
refuses("container", "Storage", lambda: base().untyped_storage(), "tensor that owns it")
refuses(
    "container",
    "DLPack capsule",
    lambda: torch.utils.dlpack.to_dlpack(base()),
    "object it was made from",
)


def proxy():
    import torch.fx

    graph = torch.fx.Graph()
    return torch.fx.Proxy(graph.placeholder("x"))


refuses("container", "fx.Proxy", proxy, "while a graph is traced")


class Foreign:
    """An array of another library, which only speaks DLPack."""

    def __dlpack__(self, **options):
        return np.float32(VALUES).__dlpack__(**options)

    def __dlpack_device__(self):
        return (1, 0)


gives("container", "foreign array by DLPack, on the CPU", Foreign, "float32")


# --- trying them


def outcome(entry):
    """Convert one kind; return the outcome as what JSON can hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # several makers use what torch calls beta
        obj = entry.make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            if isinstance(obj, Inside):
                result = obj.run(lambda value: to_numpy(value, **entry.options))
            else:
                result = to_numpy(obj, **entry.options)
        except Exception as error:  # noqa: BLE001 - the outcome, whatever it is
            return {"error": type(error).__name__, "message": str(error)}
    dense = result
    checks = {}
    if sp.issparse(result):
        dense = result.toarray()
        checks = {"int32": result.indices.dtype == result.indptr.dtype == np.int32}
        result.data[...] = 0
    else:
        dense = result.copy()
        checks = {"contiguous": result.flags.c_contiguous, "owned": owns(result)}
        result[...] = 0
    if np.iscomplexobj(dense):
        dense = np.stack([dense.real, dense.imag], axis=-1)
    return {
        "form": type(result).__name__,
        "dtype": str(result.dtype),
        "values": dense.tolist(),
        "checks": {name: bool(value) for name, value in checks.items()},
    }


def owns(array):
    return array.flags.owndata and array.flags.writeable


def try_each():
    """Try each kind in a fork, so that a crash is seen and costs only that one."""
    torch.set_num_threads(1)  # a fork has none of its parent's threads
    for module in SLOW_TO_IMPORT:  # once here, instead of once in each fork
        importlib.import_module(module)
    found = []
    for entry in KINDS:
        if entry.is_missing:
            found.append({"status": 0, "outcome": None})
            continue
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            signal.alarm(TIMEOUT_SECONDS)
            try:
                text = json.dumps(outcome(entry))
            except BaseException:  # noqa: BLE001 - the parent gets it as text
                text = json.dumps({"error": "broken test", "message": trace()})
            with os.fdopen(write, "w") as pipe:
                pipe.write(text)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        found.append({"status": status, "outcome": json.loads(text or "null")})
    return found


def tell_each():
    json.dump(try_each(), sys.stdout)


def trace():
    return traceback.format_exc(limit=-4)


# --- the page


def table():
    """Render the table of kinds as Markdown."""
    lines = ["| kind | what comes back |", "|---|---|"]
    section = ""
    for entry in KINDS:
        if entry.section != section:
            section = entry.section
            lines.append(f"| **{section}** | |")
        if entry.error:
            result = f"`{entry.error}`: “{entry.message}”"
        else:
            result = f"`{entry.dtype}`"
            if entry.form != "ndarray":
                result += f" `{entry.form}`"
        lines.append(f"| {entry.name} | {result} |")
    return "\n".join(lines)


def rendered(page):
    """Put the table between its marks in the text of the page."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(rendered(PAGE.read_text()))
    else:
        tell_each()
