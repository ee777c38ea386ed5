"""Memory is shared where that is safe and wanted, and copied in pieces elsewhere."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from sklearn_torch_bridge import to_numpy
from sklearn_torch_bridge._convert import _copy_or_share, _join_rows
from tests import strategies

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


class TestSharing:
    def test_a_shared_array_is_read_only_and_follows_the_tensor(self):
        tensor = torch.ones(2)
        array = to_numpy(tensor, copy=None)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 2
        tensor[0] = 3
        assert array.tolist() == [3, 1]

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

    def test_copy_is_one_of_three(self):
        with pytest.raises(
            ValueError, match="`copy` must be True, False or None, got 1"
        ):
            to_numpy(torch.ones(1), copy=1)


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

        def noted(out, values, **more):
            found.append(int(np.prod(out.shape)))
            return function(out, values, **more)

        monkeypatch.setattr(owner, name, noted)
        assert convert(tensor).tolist() == tensor.tolist()
        assert found == sizes

    def test_a_single_thread_waits_for_no_other(self, monkeypatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        self.test_pieces_hold_every_value_and_are_as_few_as_may_be(
            monkeypatch, "copied", "contiguous", (59,), [59]
        )
