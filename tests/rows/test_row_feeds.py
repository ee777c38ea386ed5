import threading

import numpy as np
import pytest
import torch

from sklearn_torch_bridge import ForwardError
from sklearn_torch_bridge._rows._row_feeds import ArrayFeed, RowFeed, TensorFeed


def rows(*numbers):
    return np.array(numbers)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "wanted",
    [rows(0, 1, 2), rows(2, 0), rows(0, 2, 1)],
    ids=["run", "scattered", "mixed"],
)
def test_array_rows_are_copied_in_the_models_dtype(order, wanted):
    array = np.arange(12.0).reshape(3, 4, order=order)
    array.flags.writeable = False
    (tensor,) = ArrayFeed(array, torch.float32).batch(wanted).args
    assert tensor.dtype == torch.float32
    assert tensor.tolist() == array[wanted].tolist()
    tensor.zero_()
    assert array[2, 3] == 11


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_stay_integers(dtype):
    (tensor,) = ArrayFeed(np.ones((1, 2), dtype), torch.float32).batch(rows(0)).args
    assert tensor.dtype == getattr(torch, dtype)


def test_a_value_that_the_models_dtype_cannot_hold_is_an_error():
    feed = ArrayFeed(np.full((3, 1), 1e300), torch.float32)
    with pytest.raises(ValueError, match="fit the dtype of the model") as caught:
        feed.batch(rows(1, 2))
    assert caught.value.__notes__ == ["While casting rows 1 to 2 of `X`."]


@pytest.mark.parametrize(
    ("held", "dtype", "value"),
    [
        (torch.float64, torch.float32, 1e300),
        (torch.float32, torch.float16, 1e5),
        (torch.bfloat16, torch.float16, 1e5),
    ],
    ids=str,
)
def test_a_tensor_that_the_models_dtype_cannot_hold_is_an_error(held, dtype, value):
    feed = TensorFeed(torch.full((3, 1), value, dtype=held), dtype)
    with pytest.raises(ValueError, match=f"{dtype}, but a value of {held} would over"):
        feed.batch(slice(0, 2))
    for mask in (-torch.inf, torch.finfo(held).min):
        (cast,) = (
            TensorFeed(torch.full((2, 1), mask, dtype=held), dtype)
            .batch(slice(0, 2))
            .args
        )
        assert cast.tolist() == [[-torch.inf]] * 2


def test_memory_serves_the_next_batch_unless_somebody_keeps_the_last():
    X = np.repeat(np.arange(6.0)[:, None], 2**18, axis=1)  # a megabyte a row
    feed = ArrayFeed(X, torch.float32)
    first = feed.batch(slice(0, 2)).args[0].data_ptr()
    kept = feed.batch(slice(1, 3)).args[0][1:].view(-1)
    assert kept.data_ptr() == first + 2**20
    other = feed.batch(slice(3, 5)).args[0]
    assert set(kept.tolist()) == {2}
    assert other.mean(1).tolist() == [3, 4]
    place = other.data_ptr()
    del kept, other
    assert feed.batch(slice(4, 6)).args[0].data_ptr() == place


def test_memory_maps_are_only_read(tmp_path):
    path = tmp_path / "X.npy"
    np.save(path, np.ones((4, 2), np.float32))
    mapped = np.load(path, mmap_mode="r")
    (tensor,) = ArrayFeed(mapped, torch.float32).batch(rows(0, 1)).args
    tensor.zero_()
    assert np.load(path).min() == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64], ids=str)
def test_tensor_rows_are_copied(dtype):
    source = torch.ones(3, 2, dtype=dtype, requires_grad=dtype.is_floating_point)
    (tensor,) = TensorFeed(source, torch.float32).batch(rows(0, 1)).args
    tensor.zero_()
    assert source.min().item() == 1
    expected = torch.float32 if dtype.is_floating_point else dtype
    assert tensor.dtype == expected


@pytest.mark.parametrize(
    ("made", "n_args", "names"),
    [
        (torch.ones(2, 1), 1, []),
        (np.ones((2, 1)), 1, []),
        ((torch.ones(2, 1), torch.ones(2)), 2, []),
        ({"x": np.ones((2, 1)), "flag": True}, 0, ["x", "flag"]),
    ],
    ids=["tensor", "array", "tuple", "mapping"],
)
def test_preprocess_may_return_what_models_take(made, n_args, names):
    inputs = RowFeed(["a", "b"], lambda _: made, torch.float32).batch(rows(0, 1))
    assert len(inputs.args) == n_args
    assert list(inputs.kwargs) == names


def test_preprocess_hears_a_list_of_the_rows_asked_for():
    heard = []

    def preprocess(given):
        heard.append(given)
        return torch.zeros(len(given), 1)

    RowFeed(["a", "b", "c"], preprocess, torch.float32).batch(rows(2, 0))
    assert heard == [["c", "a"]]


def test_preprocess_may_write_to_its_rows():
    X = np.ones((3, 2))

    def preprocess(given):
        for row in given:
            row[:] = 0
        return np.stack(given)

    RowFeed(X, preprocess, torch.float32).batch(rows(0, 1))
    assert X.min() == 1


def test_floats_of_preprocess_are_cast_and_its_mask_is_the_mask():
    mask = torch.tensor([[1, 0]])
    made = {"x": torch.ones(1, 2, dtype=torch.float64), "attention_mask": mask}
    inputs = RowFeed(["a"], lambda _: made, torch.bfloat16).batch(rows(0))
    assert inputs.kwargs["x"].dtype == torch.bfloat16
    assert inputs.kwargs["attention_mask"].dtype == torch.int64
    assert inputs.mask is mask


def test_a_failing_preprocess_names_the_rows_of_the_caller():
    def preprocess(given):
        raise KeyError(given[0])

    feed = RowFeed(["a", "b"], preprocess, None, origin=rows(0, 1, 0))
    with pytest.raises(
        ForwardError, match=r"`preprocess` failed on rows 0, 2: KeyError"
    ):
        feed.batch(rows(0))


@pytest.mark.parametrize("made", [[[1, 2]], None, "text"], ids=str)
def test_preprocess_must_return_something_a_model_takes(made):
    with pytest.raises(TypeError, match=r"`preprocess` must return a tensor.* got"):
        RowFeed(["a"], lambda _: made, None).batch(rows(0))


def test_threads_do_not_share_the_memory_of_batches():
    X = np.ones((600, 1_000), np.float32)
    feed = ArrayFeed(X, torch.float32)
    places = []

    def batch():
        places.append(feed.batch(slice(0, 300)).args[0].data_ptr())

    batch()
    batch()  # the same memory again, as nobody has kept it
    thread = threading.Thread(target=batch)
    thread.start()
    thread.join()
    assert places[0] == places[1] != places[2]
