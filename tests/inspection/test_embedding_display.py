import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.preprocessing import StandardScaler

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.inspection import EmbeddingDisplay
from sklearn_torch_bridge.inspection._figure_style import COLORS, MARKERS
from tests.inspection.test_figure_style import LONG
from tests.tiny_models import mlp


def test_pca_with_its_shares_of_variance(rng):
    Z = rng.normal(size=(50, 6)) * [5, 3, 1, 1, 1, 1]
    found = EmbeddingDisplay.from_embeddings(Z)
    expected = PCA(2, random_state=0).fit(Z)
    np.testing.assert_allclose(found.points, expected.transform(Z), rtol=1e-9)
    np.testing.assert_allclose(found.explained, expected.explained_variance_ratio_)
    ax = found.plot().ax_
    share = expected.explained_variance_ratio_[0]
    assert ax.get_xlabel() == f"PCA 1 ({share:.1%} of variance)"


def test_any_projection(rng):
    Z = rng.normal(size=(50, 6))
    found = EmbeddingDisplay.from_embeddings(Z, projection=TruncatedSVD(3))
    assert found.points.shape == (50, 2)
    plain = EmbeddingDisplay.from_embeddings(Z, projection=StandardScaler())
    assert plain.explained is None
    np.testing.assert_allclose(plain.points, StandardScaler().fit_transform(Z)[:, :2])
    assert plain.plot().ax_.get_xlabel() == "StandardScaler 1"
    with pytest.raises(ValueError, match=r"`projection` must give at least 2 colum"):
        EmbeddingDisplay.from_embeddings(Z, projection=PCA(1))


def test_from_a_transformer(task):
    X, y = task
    found = EmbeddingDisplay.from_estimator(TorchFeatureExtractor(mlp()), X, y)
    Z = TorchFeatureExtractor(mlp()).transform(X)
    expected = EmbeddingDisplay.from_embeddings(Z, y)
    np.testing.assert_array_equal(found.points, expected.points)


def test_classes_have_a_colour_a_mark_and_a_count_each(rng):
    Z = rng.normal(size=(30, 3))
    y = pd.Series(np.repeat(["no", "so so", "yes"], [5, 10, 15]), name="mood")
    ax = EmbeddingDisplay.from_embeddings(Z, y).plot().ax_
    legend = ax.get_legend()
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["no (5)", "so so (10)", "yes (15)"]
    assert legend.get_title().get_text() == "mood"
    drawn = [len(group.get_offsets()) for group in ax.collections]
    assert drawn == [5, 10, 15]
    assert (
        len({group.get_paths()[0].vertices.tobytes() for group in ax.collections}) == 3
    )


def test_of_many_classes_the_largest_have_colours(rng):
    sizes = [2, 30, 4, 20, 6, 25, 8, 15, 10, 40]
    y = np.repeat(np.arange(10), sizes)
    ax = EmbeddingDisplay.from_embeddings(rng.normal(size=(160, 3)), y).plot().ax_
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    named = ["1 (30)", "3 (20)", "5 (25)", "7 (15)", "8 (10)", "9 (40)"]
    assert words == ["4 other classes (20)", *named]
    assert len(COLORS) == len(MARKERS)


def test_long_names_of_classes_stay_different(rng):
    y = np.repeat(LONG[:9], [9, 8, 8, 8, 8, 8, 8, 1, 1])
    display = EmbeddingDisplay.from_embeddings(rng.normal(size=(59, 3)), y).plot()
    words = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert words[:2] == ["3 other classes (10)", "…blocks.0… (9)"]
    assert len(set(words)) == 7


def test_numbers_have_a_scale(rng):
    y = torch.tensor(rng.normal(size=30))
    display = EmbeddingDisplay.from_embeddings(rng.normal(size=(30, 3)), y).plot()
    assert display.ax_.get_legend() is None
    assert len(display.figure_.axes) == 2


def test_names_are_shown_as_they_are(rng):
    y = pd.Series(np.repeat(["_a", "b$^$", "$c$"], 10), name="$^$")
    display = EmbeddingDisplay.from_embeddings(rng.normal(size=(30, 3)), y).plot()
    legend = display.ax_.get_legend()
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["$c$ (10)", " _a (10)", "b$^$ (10)"]
    display.figure_.draw_without_rendering()
    assert not legend.get_title().get_parse_math()


def test_points_that_are_all_one_have_no_shares():
    with pytest.warns(RuntimeWarning, match="invalid value"):  # scikit-learn's
        display = EmbeddingDisplay.from_embeddings(np.ones((5, 3)))
    assert display.plot().ax_.get_xlabel() == "PCA 1"


def test_labels_of_several_kinds_are_classes(rng):
    Z = rng.normal(size=(4, 3))
    display = EmbeddingDisplay.from_embeddings(Z, [1, "a", 1, "b"]).plot()
    words = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert words == ["1 (2)", "a (1)", "b (1)"]


@pytest.mark.parametrize(
    "y", [["a", None, "b"], [0.5, np.nan, 0.1], pd.Series(["a", pd.NA, "b"])], ids=str
)
def test_a_label_that_is_missing_is_named(rng, y):
    with pytest.raises(ValueError, match=r"`y` must have a value .* but row 1 has"):
        EmbeddingDisplay.from_embeddings(rng.normal(size=(3, 3)), y)


def test_one_column_is_no_plane(rng):
    with pytest.raises(ValueError, match="`Z` must have at least 2 columns"):
        EmbeddingDisplay.from_embeddings(rng.normal(size=(3, 1)))


def test_labels_of_another_length_are_an_error(rng):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
        EmbeddingDisplay.from_embeddings(rng.normal(size=(9, 3)), [0, 1])
