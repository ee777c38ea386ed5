"""One array or frame: checked as scikit-learn does, copied a batch at a time."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import ConversionError, TorchFeatureExtractor
from sklearn_torch_bridge._rows._arrays import ArrayFeed
from sklearn_torch_bridge._rows._base import FeedError


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
    with pytest.raises(FeedError) as caught:
        feed.batch(rows(1, 2))
    assert caught.value.rows.tolist() == [1, 2]
    named = caught.value.for_rows(rows(4, 5))
    assert "must fit the dtype of the model" in str(named)
    assert named.__notes__ == ["While casting rows 4 to 5 of `X`."]


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


def test_a_frame_before_fit_is_no_reason_to_warn():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    extractor = TorchFeatureExtractor(torch.nn.Identity())
    np.testing.assert_array_equal(extractor.transform(frame), frame)
    extractor.fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        extractor.transform(frame.rename(columns={"a": "c"}))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2).to(torch.float8_e5m2),
        torch.complex(torch.ones(2), torch.ones(2)).conj().imag,
    ],
    ids=["bfloat16", "float8", "negative bit"],
)
def test_a_tensor_in_lists_that_numpy_cannot_read_is_called_so(tensor):
    for rows in ([[tensor, tensor]], [[[tensor]], [[tensor]]], [[[1.0, 2.0], tensor]]):
        with pytest.raises((TypeError, ValueError), match="`X` must hold"):
            TorchFeatureExtractor(nn.Identity()).transform(rows)


@pytest.mark.parametrize("on_error", ["raise", "nan"])
@pytest.mark.parametrize(
    "X", [[1.0, np.ma.masked], (1, np.ma.masked), [True, np.ma.masked]], ids=str
)
def test_a_masked_number_is_named(X, on_error):
    extractor = TorchFeatureExtractor(nn.ReLU(), on_error=on_error)
    with pytest.raises(ConversionError, match="row 1 has masked values"):
        extractor.transform(X)


def test_nothing_but_masked_numbers_is_named():
    with pytest.raises(ConversionError, match="row 0 has masked values"):
        TorchFeatureExtractor(nn.ReLU()).transform([np.ma.masked])


@pytest.mark.parametrize("make", [np.array, np.ma.array], ids=["plain", "masked"])
def test_an_array_with_fields_is_to_be_made_plain(make):
    X = make([(1, 2.0)], dtype=[("a", int), ("b", float)])
    with pytest.raises(
        ConversionError, match=r"fields \('a', 'b'\).*unstructured\(X\)"
    ):
        TorchFeatureExtractor(nn.ReLU()).transform(X)
