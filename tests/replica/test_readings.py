"""What is read of a model, and what is said where it cannot be."""

from sklearn_torch_bridge._replica import Reading
from sklearn_torch_bridge._replica._readings import carried, why_missing
from sklearn_torch_bridge._replica._rows_in_values import RowCountError
from sklearn_torch_bridge.pooling import POOLINGS


def test_a_pooling_that_has_a_name_is_not_the_callers():
    assert not Reading(pool=POOLINGS["max"]).has_own_pool
    assert not Reading().has_own_pool
    assert Reading(pool=lambda hidden, _: hidden).has_own_pool


def test_a_wrong_number_of_results_is_of_the_batch():
    assert carried(RowCountError(), "a").of_batch
    assert not carried(ValueError(), "a").of_batch


def test_at_most_five_missing_weights_are_named():
    assert "'w0', 'w1', 'w2', 'w3', 'w4' and 2 more," in why_missing(
        tuple(f"w{number}" for number in range(7))
    )
