"""What signatures name, and the error that parts a batch."""

from sklearn_torch_bridge._types import UnevenBatchError


def test_a_batch_is_parted_by_the_kind_of_each_row():
    parts = UnevenBatchError.grouped([(2, 3), (1, 3), (2, 3)]).parts
    assert [part.tolist() for part in parts] == [[0, 2], [1]]
