"""What is learnt of a result."""

import numpy as np

from sklearn_torch_bridge._estimators._extracted import Extracted, no_rows


def test_rows_of_any_length_are_learnt_without_a_length():
    entries = np.empty(1, object)
    entries[0] = np.ones((3, 8), "float32")
    learnt = Extracted(entries, (8,), ()).learnt
    assert learnt.shape == (0, 0, 8)
    assert no_rows(learnt).dtype == object
    assert no_rows(Extracted(np.ones((2, 8)), (8,), ()).learnt).shape == (0, 8)
