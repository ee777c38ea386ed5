from functools import partial

import numpy as np
import pytest

from sklearn_torch_bridge import TorchFeatureExtractor, stats
from sklearn_torch_bridge.inspection import SimilarityDisplay
from tests.tiny_models import mlp


def test_each_with_each(rng):
    embeddings = {name: rng.normal(size=(30, k + 2)) for k, name in enumerate("abc")}
    found = SimilarityDisplay.from_embeddings(embeddings)
    for i, one in enumerate(embeddings.values()):
        for j, another in enumerate(embeddings.values()):
            expected = stats.cka(one, another)
            assert found.similarity[i, j] == pytest.approx(expected, rel=1e-9)
    assert found.row_names == found.column_names == ["a", "b", "c"]
    assert found.measure_name == "linear CKA"


def test_of_two_models(task):
    X, _ = task
    one = TorchFeatureExtractor(mlp(), layer=["first", "act"])
    other = TorchFeatureExtractor(mlp(seed=1), layer="*")
    found = SimilarityDisplay.from_estimator(one, X, other=other)
    assert found.similarity.shape == (2, 3)
    assert found.column_names == ["first", "act", "second"]
    expected = stats.cka(
        TorchFeatureExtractor(mlp(), layer="act").transform(X),
        TorchFeatureExtractor(mlp(seed=1), layer="first").transform(X),
    )
    assert found.similarity[1, 0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("measure", "name"),
    [(stats.rsa, "rsa"), (partial(stats.cka, debiased=True), "cka")],
)
def test_any_measure(rng, measure, name):
    X, Y = rng.normal(size=(2, 30, 4))
    found = SimilarityDisplay.from_embeddings({"X": X}, {"Y": Y}, measure=measure)
    assert found.similarity == pytest.approx(float(measure(X, Y)))
    assert found.measure_name == name
    named = SimilarityDisplay.from_embeddings({"X": X}, measure_name="alike")
    assert named.plot().figure_.axes[1].get_ylabel() == "alike"


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match=r"must name at least one embedding"):
        SimilarityDisplay.from_embeddings({})


def test_numbers_are_written_where_they_fit():
    few = SimilarityDisplay(np.eye(3), ["a"] * 3, ["b"] * 3).plot().ax_
    assert [text.get_text() for text in few.texts][:2] == ["1.00", "0.00"]
    names = [str(k) for k in range(90)]
    many = SimilarityDisplay(np.eye(90), names, names)
    assert not many.plot().ax_.texts
