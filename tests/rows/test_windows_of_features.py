"""Features of ids, as a model that prepares texts itself makes them."""

import pytest
import torch

from sklearn_torch_bridge._rows._windows_of_features import FeaturesOfIds
from sklearn_torch_bridge._types import Inputs


def features(ids, **others):
    given = torch.tensor([ids])
    return {"input_ids": given, "attention_mask": torch.ones_like(given), **others}


def test_what_is_no_token_is_taken_over():
    like = features([1, 5, 2], modality="text", kinds=[3])
    form = FeaturesOfIds.made_by(
        lambda texts: Inputs((like,), n_prompt=2) if texts == ["long"] else None,
        ["a", "long", "b"],
    )
    ids = torch.tensor([[1, 4], [1, 2]])
    made = form({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    (given,) = made.args
    assert form.row == 1
    assert made.n_prompt == 2
    assert given["modality"] == "text"
    assert given["kinds"] == [3, 3]
    assert torch.equal(given["input_ids"], ids)


@pytest.mark.parametrize(
    ("like", "named"),
    [
        ({"words": torch.zeros(1, 9)}, "makes no ids"),
        (features([1, 5, 2], lengths=torch.tensor([3])), "makes no 'lengths'"),
        (features([1, 6, 2]), "other ids"),
    ],
    ids=["no ids", "another feature", "other ids"],
)
def test_what_cannot_be_made_of_ids_is_refused(like, named):
    with pytest.raises(ValueError, match=f"{named}.*'cut'"):
        FeaturesOfIds(like, 0).check(["input_ids"], [1, 5, 7, 8, 2])


def test_ids_that_the_model_has_cut_are_the_same():
    FeaturesOfIds(features([1, 5, 2]), 0).check(["input_ids"], [1, 5, 7, 8, 2])
