"""Any tensor becomes an array, or a clear reason why not."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge import ConversionError, OutputError, to_numpy
from sklearn_torch_bridge._convert import _copy_or_share, _join_rows
from sklearn_torch_bridge._convert._to_numpy import numpy_dtype, to_tensor, write_rows
from tests import strategies
from tests.kinds import KINDS, PAGE, rendered

pytestmark = [
    # torch says so where the tests make such tensors, not where they are converted
    pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
]


UNSHAREABLE = {
    "transposed": lambda: torch.ones(2, 3).T,
    "expanded": lambda: torch.ones(1).expand(2),
    "bfloat16": lambda: torch.ones(2, dtype=torch.bfloat16),
    "negative bit": lambda: (torch.ones(2) * 1j).conj().imag,
    "zero tensor": lambda: torch._efficientzerotensor((2,)),
    "coo": lambda: torch.eye(2).to_sparse(),
    "csr": lambda: torch.eye(2).to_sparse_csr(),
    "mkldnn": lambda: torch.eye(2).to_mkldnn(),
    "list": lambda: [torch.ones(2)],
    "array, transposed": lambda: np.ones((2, 3)).T,
    "array, float16": lambda: np.ones(2, np.float16),
    "scipy": lambda: sp.csr_array(np.eye(2)),
}


@pytest.fixture(scope="module")
def outcomes():
    """Try all kinds in one run: it forks for each, so that a crash is seen."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork, which this platform lacks")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.kinds"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PAGE.parents[1],
    )
    return json.loads(run.stdout)


class TestKinds:
    @pytest.mark.parametrize(
        "index", range(len(KINDS)), ids=[f"{k.section}: {k.name}" for k in KINDS]
    )
    def test_a_kind_has_the_outcome_that_the_table_says(self, outcomes, index):
        kind, found = KINDS[index], outcomes[index]
        if kind.is_missing:
            pytest.skip(f"this torch has no torch.{kind.needs}")
        assert found["status"] == 0, "the process died"
        outcome = found["outcome"]
        if kind.error:
            assert outcome.get("error") == kind.error, outcome
            assert kind.says in outcome["message"]
        else:
            assert "error" not in outcome, outcome
            assert outcome["dtype"] == kind.dtype
            assert outcome["form"] == kind.form
            assert outcome["values"] == kind.values
            assert all(outcome["checks"].values()), outcome["checks"]

    def test_every_kind_says_either_values_or_an_error(self):
        for kind in KINDS:
            assert bool(kind.error) == bool(kind.says) != bool(kind.dtype)

    def test_every_dtype_of_torch_has_an_outcome(self):
        """Held by the table of dtypes, or refused: none is read as raw bytes."""
        told = " ".join(kind.name for kind in KINDS)
        dtypes = {d for d in vars(torch).values() if isinstance(d, torch.dtype)}
        for dtype in dtypes:
            try:
                numpy_dtype(dtype)
            except ConversionError:
                continue
            assert str(dtype) in told

    def test_the_page_shows_the_table(self):
        """After a change of the table: python -m tests.kinds --write."""
        page = PAGE.read_text()
        assert page == rendered(page)


class TestProperties:
    @given(strategies.dense(strategies.shapes(0)))
    def test_values_equal_those_of_tolist(self, tensor):
        before = tensor.tolist()
        array = to_numpy(tensor)
        assert array.tolist() == before
        assert array.shape == tuple(tensor.shape)
        assert array.dtype == numpy_dtype(tensor.dtype)
        assert array.flags.c_contiguous
        assert array.flags.owndata
        assert array.flags.writeable
        array[...] = 0
        assert tensor.tolist() == before

    @given(strategies.dense(strategies.shapes(0)), st.sampled_from([None, True]))
    def test_each_way_of_copying_gives_the_same_values(self, tensor, copy):
        array = to_numpy(tensor, copy=copy)
        assert array.tolist() == tensor.tolist()
        is_copied = not array.size or array.flags.owndata
        assert is_copied or not array.flags.writeable

    @given(
        strategies.dense(strategies.shapes(0)),
        st.sampled_from(["float32", "float64", "complex128", "longdouble", ">f8"]),
    )
    def test_a_wider_dtype_holds_the_same_values(self, tensor, dtype):
        array = to_numpy(tensor, dtype=dtype)
        assert array.dtype == np.dtype(dtype)
        assert array.tolist() == tensor.tolist()

    @given(
        strategies.dense(strategies.shapes(0), [torch.float64, torch.int64]),
        st.sampled_from(["int8", "float16", "int32", "float32"]),
    )
    def test_a_narrower_dtype_holds_the_same_values(self, tensor, dtype):
        assert to_numpy(tensor, dtype=dtype).tolist() == tensor.tolist()

    @given(strategies.sparse())
    def test_sparse_values_equal_the_dense_ones(self, tensor):
        array = to_numpy(tensor)
        assert array.toarray().tolist() == tensor.to_dense().tolist()
        assert array.dtype == numpy_dtype(tensor.dtype)
        assert array.indices.dtype == array.indptr.dtype == np.int32

    @given(strategies.rows())
    def test_rows_are_stacked(self, rows):
        array = to_numpy(rows)
        assert array.tolist() == [row.tolist() for row in rows]
        assert array.dtype == np.result_type(*(numpy_dtype(r.dtype) for r in rows))

    @pytest.mark.parametrize("shape", [(), (3,), (1, 3)], ids=["one", "row", "batch"])
    @pytest.mark.parametrize("other", [np.zeros, torch.zeros], ids=["arrays", "mixed"])
    def test_a_list_may_hold_arrays(self, shape, other):
        array = to_numpy([np.ones(shape), other(shape)])
        assert array.shape == (2, *shape[-1:])
        assert array.dtype == np.float64
        assert array.reshape(2, -1).mean(1).tolist() == [1, 0]

    @given(strategies.batches())
    def test_batches_are_joined(self, batches):
        array = to_numpy(batches)
        assert array.tolist() == [row for batch in batches for row in batch.tolist()]

    @given(strategies.dense(strategies.shapes(), strategies.FLOATS))
    def test_there_and_back_is_equal(self, tensor):
        back = to_tensor(to_numpy(tensor), dtype=tensor.dtype)
        assert back.dtype == tensor.dtype
        assert torch.equal(back, tensor)


# By way: what is called for each piece, and how its values are asked for.
WAYS = {
    "copied": ((torch.Tensor, "copy_"), torch.float32, to_numpy),
    "checked": (
        (_copy_or_share, "cast_into"),
        torch.float64,
        lambda t: to_numpy(t, dtype="float32"),
    ),
    "stacked": ((_join_rows, "fill"), torch.float32, lambda t: to_numpy(list(t))),
}


class TestPieces:
    """What is large goes in pieces of at most so many values, or of single rows."""

    @pytest.fixture(autouse=True)
    def limits(self, monkeypatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        monkeypatch.setattr(_copy_or_share, "SERIAL_LIMIT", 6)
        monkeypatch.setattr(_join_rows, "SERIAL_LIMIT", 6)
        monkeypatch.setattr(_copy_or_share, "_WORTH_WAITING", 60)

    @pytest.mark.parametrize(
        ("way", "layout", "shape", "sizes"),
        [
            ("copied", "contiguous", (6,), [6]),
            ("copied", "contiguous", (7,), [6, 1]),
            ("copied", "contiguous", (4, 3), [6, 6]),
            ("copied", "contiguous", (59,), [*[6] * 9, 5]),
            ("copied", "contiguous", (60,), [60]),
            ("copied", "transposed", (8, 2), [6, 6, 4]),
            ("copied", "transposed", (2, 7), [7, 7]),
            ("checked", "contiguous", (), [1]),
            ("checked", "contiguous", (13,), [6, 6, 1]),
            ("checked", "transposed", (8, 2), [6, 6, 4]),
            ("checked", "transposed", (2, 7), [7, 7]),
            ("checked", "contiguous", (8, 0), [0, 0]),
            ("stacked", "contiguous", (13,), [6, 6, 1]),
            ("stacked", "contiguous", (8, 2), [6, 6, 4]),
            ("stacked", "contiguous", (2, 7), [7, 7]),
            ("stacked", "contiguous", (8, 0), [0, 0]),
        ],
    )
    def test_pieces_hold_every_value_and_are_as_few_as_may_be(
        self, monkeypatch, way, layout, shape, sizes
    ):
        (owner, name), dtype, convert = WAYS[way]
        values = torch.arange(1.0, 1 + int(np.prod(shape)), dtype=dtype)
        tensor = strategies.LAYOUTS[layout](values.reshape(shape))
        found, function = [], getattr(owner, name)

        def noted(out, values):
            found.append(int(np.prod(out.shape)))
            return function(out, values)

        monkeypatch.setattr(owner, name, noted)
        assert convert(tensor).tolist() == tensor.tolist()
        assert found == sizes

    def test_a_single_thread_waits_for_no_other(self, monkeypatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        self.test_pieces_hold_every_value_and_are_as_few_as_may_be(
            monkeypatch, "copied", "contiguous", (59,), [59]
        )


class OnAnotherDevice:
    def __dlpack__(self):
        pytest.fail("asked for memory that no array can hold")

    def __dlpack_device__(self):
        return 2, 0


class WithAnArray(OnAnotherDevice):
    def __array__(self, dtype=None, copy=None):
        return np.ones(2)


class Unwilling:
    def __array__(self, dtype=None, copy=None):
        msg = "not today"
        raise TypeError(msg)


def test_who_has_an_array_is_asked_for_that():
    assert to_numpy(WithAnArray()).tolist() == [1, 1]


class TestRefusals:
    @pytest.mark.parametrize(
        ("obj", "kind", "says"),
        [
            (OnAnotherDevice(), ConversionError, "a OnAnotherDevice is not on the CPU"),
            (Unwilling(), ConversionError, "no array on the CPU: not today"),
            ([[1, 2], [3]], ValueError, "row 0 has 2, row 1 has 1. Pad or pool"),
            ([[1, 2], 3], ValueError, "row 0 has 2, row 1 has 1. Pad or pool"),
            ([[[1], [1, 2]]] * 2, ValueError, "the rows have no common shape"),
            ([torch.ones(1), "a"], ConversionError, "a str of dtype <U1 in a list"),
            ([torch.ones(1), [[1], [1, 2]]], ConversionError, "a list in a list of"),
            ([torch.ones(1), torch.ones(2)], ValueError, r"row 0 has \(1,\), row 1"),
            (
                [torch.ones(1, 2), torch.ones(2, 3)],
                ValueError,
                r"batch 0 has \(1, 2\), batch 1 has \(2, 3\)",
            ),
            ([torch.ones(1, 2), torch.ones(2)], ValueError, "batch 0 .* batch 1 has"),
        ],
        ids=[
            *("device", "type error", "ragged", "ragged scalar", "ragged inside"),
            *("str", "ragged among tensors", "rows", "batches", "batch and row"),
        ],
    )
    def test_what_is_no_array_is_refused_and_named(self, obj, kind, says):
        with pytest.raises(kind, match=says):
            to_numpy(obj)


SPARSE = {
    **strategies.SPARSE_LAYOUTS,
    "scipy csr": lambda tensor: sp.csr_array(tensor.numpy()),
    "scipy csc": lambda tensor: sp.csc_array(tensor.numpy()),
    "scipy coo": lambda tensor: sp.coo_array(tensor.numpy()),
}


@pytest.mark.parametrize("make", SPARSE.values(), ids=SPARSE)
class TestSparse:
    def test_values_are_narrowed(self, make):
        tensor = torch.tensor([[0.5, 0.0], [0.0, 3.0]], dtype=torch.float64)
        array = to_numpy(make(tensor), dtype="float32")
        assert array.dtype == np.float32
        assert array.toarray().tolist() == tensor.tolist()

    def test_a_value_that_does_not_fit_is_an_error(self, make):
        tensor = torch.full((1, 2), 1e300, dtype=torch.float64)
        with pytest.raises(ValueError, match=r"must hold every value, .* 1e\+300"):
            to_numpy(make(tensor), dtype="float32")

    def test_scipy_has_no_float16(self, make):
        with pytest.raises(ValueError, match=r"one that SciPy has .* got 'float16'"):
            to_numpy(make(torch.eye(2)), dtype="float16")


@pytest.mark.parametrize(
    ("n_columns", "dtype"), [(2**31 - 1, np.int32), (2**31, np.int64)], ids=str
)
@pytest.mark.parametrize(
    "make",
    [
        lambda size: torch.sparse_coo_tensor([[0], [size - 1]], [2.0], (1, size)),
        lambda size: torch.sparse_csr_tensor([0, 1], [size - 1], [2.0], (1, size)),
        lambda size: sp.csr_array(([2.0], [size - 1], [0, 1]), (1, size)),
    ],
    ids=["coo", "csr", "scipy"],
)
def test_indices_are_int32_as_long_as_they_fit(make, n_columns, dtype):
    with torch.sparse.check_sparse_tensor_invariants():
        array = to_numpy(make(n_columns))
    assert array.shape == (1, n_columns)
    assert array.indices.tolist() == [n_columns - 1]
    assert array.indices.dtype == dtype


class TestOwnership:
    @pytest.mark.parametrize(
        "make",
        [
            lambda module: module.weight,
            lambda module: module.weight.data,
            lambda module: module.running_mean,
            lambda module: [module.running_mean, module.running_var],
            lambda module: {"last_hidden_state": module.weight},
            lambda module: module.weight.detach().numpy(),
        ],
        ids=["parameter", "data", "buffer", "list", "mapping", "array"],
    )
    def test_writing_to_a_result_leaves_the_module_alone(self, make):
        module = torch.nn.BatchNorm1d(3)
        before = {name: t.clone() for name, t in module.state_dict().items()}
        to_numpy(make(module))[...] = -7
        after = module.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before)

    @pytest.mark.parametrize(
        "wrap", [np.asarray, torch.from_numpy], ids=["array", "tensor"]
    )
    def test_writing_to_a_result_leaves_the_callers_array_alone(self, wrap):
        X = np.ones((2, 3), np.float32)
        to_numpy(wrap(X))[...] = -7
        assert (X == 1).all()

    @pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
    @pytest.mark.parametrize("mode", ["r", "r+", "c"])
    @pytest.mark.parametrize(
        "wrap", [lambda X: X, torch.from_numpy], ids=["X", "tensor"]
    )
    def test_writing_to_a_result_leaves_a_file_alone(self, tmp_path, mode, wrap):
        np.save(tmp_path / "X.npy", np.ones((2, 3), np.float32))
        to_numpy(wrap(np.load(tmp_path / "X.npy", mmap_mode=mode)))[...] = -7
        assert (np.load(tmp_path / "X.npy") == 1).all()

    @pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
    def test_writing_to_a_sparse_result_leaves_the_tensor_alone(self, layout):
        tensor = strategies.SPARSE_LAYOUTS[layout](torch.eye(3))
        array = to_numpy(tensor)
        array.data[...] = -7
        array.indices[...] = 0
        assert torch.equal(tensor.to_dense(), torch.eye(3))

    @pytest.mark.parametrize("dtype", [None, "float64", "int8"])
    def test_the_storage_of_a_copied_tensor_can_still_be_resized(self, dtype):
        tensor = torch.ones(4)
        to_numpy(tensor, dtype=dtype)
        to_numpy([tensor, tensor])
        write_rows(np.empty((1, 4)), np.array([0]), tensor[None])
        tensor.untyped_storage().resize_(0)
        assert tensor.untyped_storage().nbytes() == 0

    def test_converting_leaves_gradients_alone(self):
        weight = torch.ones(2, requires_grad=True)
        result = weight.exp()
        to_numpy(result)[...] = 0
        result.sum().backward()
        assert weight.grad.tolist() == pytest.approx([np.e, np.e])


class TestSharing:
    def test_a_shared_array_is_read_only_and_follows_the_tensor(self):
        tensor = torch.ones(2)
        array = to_numpy(tensor, copy=None)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 2
        tensor[0] = 3
        assert array.tolist() == [3, 1]

    @pytest.mark.parametrize("copy", [None, False])
    def test_arrays_are_shared_read_only_too(self, copy):
        X = np.ones(3)
        shared = to_numpy(X, copy=copy)
        assert np.shares_memory(shared, X)
        assert X.flags.writeable
        assert not shared.flags.writeable

    @pytest.mark.parametrize(
        "tensor",
        [
            torch.nn.Parameter(torch.ones(2)),
            torch.nn.Buffer(torch.ones(2)),
            torch.ones(2).share_memory_(),
            torch.ones(9)[:2],
        ],
        ids=["parameter", "buffer", "shared memory", "small view"],
    )
    def test_none_copies_where_sharing_is_unsafe_and_false_shares(self, tensor):
        array = to_numpy(tensor, copy=None)
        assert array.flags.owndata
        assert not to_numpy(tensor, copy=False).flags.owndata

    @pytest.mark.parametrize("make", UNSHAREABLE.values(), ids=UNSHAREABLE)
    def test_false_raises_where_sharing_is_impossible(self, make):
        with pytest.raises(
            ValueError, match=r"`copy` must be True or None .* got False"
        ):
            to_numpy(make(), copy=False)

    def test_sparse_is_shared_where_its_indices_are_int32(self):
        starts, columns = (torch.tensor(i, dtype=torch.int32) for i in ([0, 1], [2]))
        values = torch.ones(1)
        tensor = torch.sparse_csr_tensor(
            starts, columns, values, (1, 3), check_invariants=True
        )
        array = to_numpy(tensor, copy=False)
        assert np.shares_memory(array.data, values.numpy())
        assert not array.data.flags.writeable

    @pytest.mark.parametrize(
        ("starts", "columns"),
        [([0, 1], [3]), ([0, 1], [-1]), ([0, 2], [0])],
        ids=["beyond", "negative", "more than there are"],
    )
    def test_indices_are_checked_before_they_are_shared(self, starts, columns):
        with torch.sparse.check_sparse_tensor_invariants(enable=False):
            starts, columns = (
                torch.tensor(i, dtype=torch.int32) for i in (starts, columns)
            )
            tensor = torch.sparse_csr_tensor(starts, columns, torch.ones(1), (1, 3))
        with pytest.raises(ValueError, match=r"ind(ex|ices|ptr)"):
            to_numpy(tensor, copy=False)

    def test_copy_is_one_of_three(self):
        with pytest.raises(
            ValueError, match="`copy` must be True, False or None, got 1"
        ):
            to_numpy(torch.ones(1), copy=1)


class TestNarrowing:
    @pytest.mark.parametrize(
        ("values", "dtype"),
        [
            ([1e300, 1.0], "float32"),
            ([-1e300, 1.0], "float32"),
            ([1e5], "float16"),
            ([128], "int8"),
            ([-129], "int8"),
            ([-1], "uint8"),
            ([2**40], "int32"),
            ([-1.0], "uint64"),
            ([2.0**63], "int64"),
            ([float("nan")], "int32"),
            ([float("inf")], "int32"),
            ([0.5], "int32"),
            ([2], "bool"),
            ([1e300 + 0j], "complex64"),
        ],
    )
    @pytest.mark.parametrize("wrap", [torch.tensor, np.array, list])
    def test_a_value_that_does_not_fit_is_an_error(self, values, dtype, wrap):
        if wrap is torch.tensor:
            kind = {float: torch.float64, complex: torch.complex128, int: torch.int64}
            obj = torch.tensor(values, dtype=kind[type(values[0])])
        else:
            obj = wrap(values)
        with pytest.raises(ValueError, match="`dtype` must hold every value, got"):
            to_numpy(obj, dtype=dtype)

    def test_a_value_deep_inside_a_large_tensor_is_found(self):
        tensor = torch.ones(100_000, 3, dtype=torch.float64)
        tensor[99_999, 2] = 1e39
        with pytest.raises(ValueError, match=r"1e\+39 would overflow"):
            to_numpy(tensor, dtype="float32")

    def test_infinity_and_nan_stay_in_floats(self):
        values = [float("inf"), float("-inf"), float("nan")]
        array = to_numpy(torch.tensor(values, dtype=torch.float64), dtype="float32")
        np.testing.assert_array_equal(array, values)

    def test_bfloat16_reaches_float64_exactly(self):
        tensor = torch.tensor([3.3895e38, 1e-40], dtype=torch.bfloat16)
        assert to_numpy(tensor, dtype="float64").tolist() == tensor.double().tolist()

    @pytest.mark.parametrize("dtype", ["U3", "object", "datetime64[s]"])
    def test_dtype_names_numbers(self, dtype):
        with pytest.raises(ValueError, match="`dtype` must be a dtype of numbers"):
            to_numpy(torch.ones(1), dtype=dtype)

    def test_complex_values_are_never_made_real(self):
        with pytest.raises(ConversionError, match=r"Use \.real"):
            to_numpy(torch.ones(1, dtype=torch.complex64), dtype="float32")


class TestOutput:
    def test_a_field_that_is_not_there_is_named(self):
        with pytest.raises(OutputError, match=r"got 'c'.*'a' \(1,\)"):
            to_numpy({"a": torch.ones(1), "b": torch.ones(1)}, output="c")

    def test_a_lone_tensor_has_no_fields(self):
        with pytest.raises(OutputError, match="one value of shape"):
            to_numpy(torch.ones(2), output="a")


class TestToTensor:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_overflow_is_an_error(self, dtype):
        with pytest.raises(ValueError, match="`dtype` must hold every value"):
            to_tensor(np.array([1.0, -1e300]), dtype=dtype)

    def test_bfloat16_alone_overflowing_is_an_error(self):
        """Its largest value is below that of float32."""
        with pytest.raises(ValueError, match=r"got torch\.bfloat16"):
            to_tensor(np.array([3.4e38]), dtype=torch.bfloat16)

    def test_infinity_stays(self):
        back = to_tensor(np.array([np.inf, -np.inf]), dtype=torch.bfloat16)
        assert back.tolist() == [np.inf, -np.inf]

    def test_integers_stay_integers(self):
        assert to_tensor(np.arange(3), dtype=torch.float32).dtype is torch.int64

    @pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
    def test_the_tensor_owns_its_memory(self, dtype):
        X = np.ones(3)
        to_tensor(X, dtype=dtype).zero_()
        assert (X == 1).all()

    def test_read_only_reversed_and_big_endian_arrays_are_read(self):
        X = np.arange(3, dtype=">f8")[::-1]
        X.flags.writeable = False
        assert to_tensor(X).tolist() == [2, 1, 0]


class TestWriteRows:
    @pytest.mark.parametrize(
        "rows",
        [slice(1, 3), slice(1, None), np.array([1, 2]), np.array([2, 0])],
        ids=["slice", "open slice", "run", "scattered"],
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
    def test_rows_are_written_and_no_others(self, rows, dtype):
        target = np.full((3, 2), 9, np.float32)
        expected = target.copy()
        expected[rows] = [[1, 2], [3, 4]]
        write_rows(target, rows, torch.tensor([[1, 2], [3, 4]]).to(dtype))
        np.testing.assert_array_equal(target, expected)

    @pytest.mark.parametrize("rows", [slice(0, 2), np.array([0, 2])])
    @pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2,), (3, 2), (2, 2, 1)])
    def test_a_batch_of_another_shape_is_not_broadcast(self, rows, shape):
        target = np.zeros((3, 2), np.float32)
        with pytest.raises(ValueError, match="a batch must have shape"):
            write_rows(target, rows, torch.ones(shape))
        assert not target.any()

    @pytest.mark.parametrize("rows", [slice(0, 1), np.array([0]), np.array([0, 2])])
    def test_overflow_is_an_error(self, rows):
        n_rows = 1 if isinstance(rows, slice) else len(rows)
        source = torch.full((n_rows, 2), 1e300, dtype=torch.float64)
        with pytest.raises(ValueError, match="would overflow"):
            write_rows(np.zeros((3, 2), np.float32), rows, source)

    def test_complex_values_are_refused(self):
        with pytest.raises(ConversionError, match="complex"):
            write_rows(np.zeros((1, 1)), slice(0, 1), torch.ones(1, 1) * 1j)

    def test_no_rows_are_no_work(self):
        target = np.zeros((3, 2), np.float32)
        write_rows(target, np.array([], dtype=np.intp), torch.ones(0, 2))
        assert not target.any()


def test_a_dtype_of_torch_is_none_of_numpy():
    with pytest.raises(ValueError, match="must be a NumPy dtype of numbers, got torch"):
        to_numpy(torch.ones(2), dtype=torch.float64)
