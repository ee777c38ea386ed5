import numpy as np
import pandas as pd
import pytest

from sklearn_torch_bridge import TorchFeatureExtractor, stats
from sklearn_torch_bridge.inspection import DriftDisplay
from tests.tiny_models import mlp


def test_features_are_those_of_ks_drift(rng):
    X, Y = rng.normal(size=(2, 80, 6))
    Y[:, [1, 4]] += [1.0, 2.0]
    found = DriftDisplay.from_embeddings(X, Y, level=0.01, method="by")
    expected = stats.ks_drift(X, Y, method="by")
    np.testing.assert_array_equal(found.result.pvalue, expected.pvalue)
    np.testing.assert_array_equal(found.drifted.nonzero()[0], [1, 4])
    assert list(found.order[:2]) == [4, 1]


def test_names(task):
    X, _ = task
    frames = [pd.DataFrame(X, columns=list("abcd")) for _ in range(2)]
    assert DriftDisplay.from_embeddings(*frames).feature_names == list("abcd")
    assert DriftDisplay.from_embeddings(X, X).feature_names == list("0123")
    named = DriftDisplay.from_embeddings(X, X, feature_names="wxyz")
    assert named.feature_names == list("wxyz")
    with pytest.raises(ValueError, match=r"must name each of the 4 features, got 3"):
        DriftDisplay.from_embeddings(X, X, feature_names="xyz")


def test_from_a_transformer(task):
    X, _ = task
    extractor = TorchFeatureExtractor(mlp(), layer=["first", "second"])
    found = DriftDisplay.from_estimator(extractor, X, X + 1)
    assert found.feature_names[8] == "8"
    found = DriftDisplay.from_estimator(extractor.fit(X), X, X + 1)
    assert found.feature_names[8] == "second_0"


def test_what_is_drawn(rng):
    X, Y = rng.normal(size=(2, 80, 30))
    Y[:, 1] += 2
    ax = DriftDisplay.from_embeddings(X, Y).plot(max_features=12).ax_
    title = "1 of 30 features drifted\n(the 12 farthest; filled: p ≤ 0.05)"
    assert ax.get_title(loc="left") == title
    assert len(ax.get_yticklabels()) == 12
    assert ax.get_yticklabels()[0].get_text() == "1"
    filled, hollow = (line.get_markerfacecolor() for line in ax.lines)
    assert filled != hollow == "white"


@pytest.mark.parametrize("level", [0, 1, -0.1])
def test_the_level_is_a_probability(level):
    with pytest.raises(ValueError, match=r"`level` must be between 0 and 1"):
        DriftDisplay.from_embeddings(np.eye(3), np.eye(3), level=level)
