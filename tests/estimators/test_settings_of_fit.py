"""After `set_params` a width that `fit` learnt under other settings is forgotten."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from sklearn_torch_bridge import BadRowWarning, TorchFeatureExtractor, pooling, share
from tests.tiny_models import Tokens, mlp

X = np.ones((3, 4), np.float32)


def fitted(**parameters):
    return TorchFeatureExtractor(mlp(), on_error="nan", **parameters).fit(X)


def other_layer(extractor):
    extractor.set_params(layer="first")


def other_attribute(extractor):
    extractor.layer = ["first", "act"]


def other_model(extractor):
    extractor.set_params(model=mlp(n_out=8))


def other_handle(extractor):
    extractor.set_params(model=share(mlp(n_out=8)))


def other_pooling(extractor):
    extractor.set_params(pooling=lambda hidden, _: hidden.repeat(1, 5))


def other_last_layer(extractor):
    extractor.model.second = nn.Linear(8, 6)


CHANGES = [
    pytest.param(other_layer, 8, id="layer"),
    pytest.param(other_attribute, 16, id="attribute"),
    pytest.param(other_model, 8, id="model"),
    pytest.param(other_handle, 8, id="handle"),
    pytest.param(other_pooling, 15, id="pooling"),
    pytest.param(other_last_layer, 6, id="layer in its place"),
]


@pytest.mark.parametrize(("change", "width"), CHANGES)
@pytest.mark.parametrize(
    "empty",
    [X[:0], torch.tensor(X[:0]), scipy.sparse.csr_array(X[:0])],
    ids=["array", "tensor", "sparse"],
)
def test_no_rows_have_the_width_of_the_settings_as_they_are(change, width, empty):
    extractor = fitted()
    change(extractor)
    assert extractor.transform(empty).shape == (0, width)
    assert extractor.transform(X).shape == (3, width)


@pytest.mark.parametrize(("change", "width"), CHANGES)
def test_bad_rows_have_the_width_of_the_settings_as_they_are(change, width, tmp_path):
    extractor = fitted(cache_key="any")
    change(extractor)
    with pytest.warns(BadRowWarning, match="rows 0 to 2"):
        Z = extractor.transform(X * np.nan)
    assert Z.shape == (3, width)
    assert np.isnan(Z).all()
    with pytest.warns(BadRowWarning, match="rows 0 to 2"):
        stored = extractor.transform_to_file(X * np.nan, tmp_path / "Z.npy")
    assert stored.shape == (3, width)
    assert np.isnan(stored).all()


@pytest.mark.parametrize(("change", "width"), CHANGES)
def test_names_are_refused_until_fit_learns_them_again(change, width):
    extractor = fitted()
    change(extractor)
    with pytest.raises(NotFittedError, match="have changed since it was fitted"):
        extractor.get_feature_names_out()
    assert len(extractor.fit(X).get_feature_names_out()) == width


@pytest.mark.parametrize(("change", "width"), CHANGES)
def test_a_frame_has_the_columns_of_the_settings_as_they_are(change, width):
    extractor = fitted().set_output(transform="pandas")
    change(extractor)
    assert extractor.transform(X).shape == (3, width)
    assert extractor.transform(X[:0]).shape == (0, width)
    assert extractor.fit_transform(X).shape == (3, width)


def test_all_texts_that_are_missing_have_the_width_as_it_is(tokenizer):
    extractor = TorchFeatureExtractor(
        Tokens(), preprocess=tokenizer, output="last_hidden_state", on_error="nan"
    ).fit(["some text"])
    extractor.set_params(pooling=lambda hidden, _: hidden[:, 0, :5])
    assert extractor.transform([]).shape == (0, 5)
    with pytest.warns(BadRowWarning, match="rows 0 to 1"):
        assert extractor.transform([None, None]).shape == (2, 5)


def test_what_decides_no_width_leaves_it_learnt():
    extractor = fitted(layer=["first", "act"])
    extractor.set_params(batch_size=1, verbose=0, device="cpu", layer=("first", "act"))
    extractor.on_error = "raise"
    assert len(extractor.get_feature_names_out()) == 16
    assert extractor.transform([]).shape == (0, 16)  # nothing else would know it


def test_a_list_of_layers_that_is_changed_in_its_place_counts():
    layers = ["first"]
    extractor = fitted(layer=layers)
    layers.append("second")
    assert extractor.transform(X[:0]).shape == (0, 11)


def round_trip(extractor):
    return pickle.loads(pickle.dumps(extractor))  # noqa: S301 - our own


@pytest.mark.parametrize("copied", [round_trip, copy.copy, copy.deepcopy])
def test_copies_know_what_was_learnt_and_forget_what_is_old(copied):
    extractor = fitted(pooling=pooling.mean)
    same = copied(extractor)
    assert len(same.get_feature_names_out()) == 3
    assert same.transform([]).shape == (0, 3)
    same.set_params(layer="first")
    assert same.transform(X[:0]).shape == (0, 8)
    old = copied(extractor.set_params(layer="first"))
    assert old.transform(X[:0]).shape == (0, 8)
    with pytest.raises(NotFittedError):
        old.get_feature_names_out()
    with pytest.raises(NotFittedError):
        clone(extractor).get_feature_names_out()


def test_a_saved_extractor_knows_what_holds_and_not_what_is_old(tmp_path):
    extractor = fitted()
    extractor.save(tmp_path / "new")
    loaded = TorchFeatureExtractor.load(tmp_path / "new", mlp)
    assert len(loaded.get_feature_names_out()) == 3
    loaded.set_params(layer="first")
    assert loaded.transform(X[:0]).shape == (0, 8)
    extractor.set_params(layer="first").save(tmp_path / "old")
    old = TorchFeatureExtractor.load(tmp_path / "old", mlp)
    with pytest.raises(NotFittedError):
        old.get_feature_names_out()
    assert old.transform(X[:0]).shape == (0, 8)
