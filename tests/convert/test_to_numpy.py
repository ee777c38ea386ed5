"""Any tensor becomes an array, or a clear reason why not."""

import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_torch_bridge import OutputError, to_numpy
from sklearn_torch_bridge._convert import result_dtype, write_rows
from tests import strategies
from tests.kinds import KINDS, PAGE, rendered
from tests.processes import run_code

pytestmark = [
    # torch says so where the tests make such tensors, not where they are converted
    pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
]


@pytest.fixture(scope="module")
def outcomes():
    """Try all kinds in one run: it forks for each, so that a crash is seen."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork, which this platform lacks")
    code = "import warnings; warnings.simplefilter('ignore')\n"
    run = run_code(f"{code}from tests.kinds import tell_each; tell_each()")
    assert run.returncode == 0, run.stderr
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
            assert kind.message in outcome["message"]
        else:
            assert "error" not in outcome, outcome
            assert outcome["dtype"] == kind.dtype
            assert outcome["form"] == kind.form
            assert outcome["values"] == kind.values
            assert all(outcome["checks"].values()), outcome["checks"]

    def test_every_kind_has_either_values_or_an_error(self):
        for kind in KINDS:
            assert bool(kind.error) == bool(kind.message) != bool(kind.dtype)

    def test_the_page_shows_the_table(self):
        """After a change of the table: python -m tests.kinds --write."""
        page = PAGE.read_text()
        assert page == rendered(page)


@given(strategies.dense(strategies.shapes(0)))
def test_values_equal_those_of_tolist(tensor):
    before = tensor.tolist()
    array = to_numpy(tensor)
    assert array.tolist() == before
    assert array.shape == tuple(tensor.shape)
    assert array.dtype == result_dtype(tensor.dtype)
    assert array.flags.c_contiguous
    assert array.flags.owndata
    assert array.flags.writeable
    array[...] = 0
    assert tensor.tolist() == before


@given(strategies.dense(strategies.shapes(0)), st.sampled_from([None, True]))
def test_each_way_of_copying_gives_the_same_values(tensor, copy):
    array = to_numpy(tensor, copy=copy)
    assert array.tolist() == tensor.tolist()
    is_copied = not array.size or array.flags.owndata
    assert is_copied or not array.flags.writeable


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


def test_a_field_that_is_not_there_is_named():
    with pytest.raises(OutputError, match=r"got 'c'.*'a' \(1,\)"):
        to_numpy({"a": torch.ones(1), "b": torch.ones(1)}, output="c")


def test_a_lone_tensor_has_no_fields():
    with pytest.raises(OutputError, match="one value of shape"):
        to_numpy(torch.ones(2), output="a")


def test_a_nested_field_of_one_output_or_of_a_list_of_them():
    value = {"states": (torch.zeros(2), torch.ones(2))}
    np.testing.assert_array_equal(to_numpy(value, output=("states", 1)), [1, 1])
    listed = to_numpy([value, value], output=("states", 1))
    np.testing.assert_array_equal(listed, np.ones((2, 2)))
    np.testing.assert_array_equal(to_numpy([(1, 2), (3, 4)], output=(1, 0)), 3)
