"""Displays: values without drawing, and drawings whose words fit."""

import subprocess
import sys
from functools import partial
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - as its name says
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_torch_bridge import TorchFeatureExtractor, stats
from sklearn_torch_bridge.inspection import (
    DriftDisplay,
    EmbeddingDisplay,
    LayerScoreDisplay,
    SimilarityDisplay,
    layer_scores,
)
from sklearn_torch_bridge.inspection._by_layer import embeddings_by_layer
from sklearn_torch_bridge.inspection._style import COLORS, MARKERS, short_names
from tests.tiny_models import Counting, Doubling, mlp

mpl.use("agg")
import matplotlib.pyplot as plt

LONG = [f"vision_model.encoder.blocks.{k}.attention.output.dense" for k in range(24)]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def task(rng):
    X = rng.normal(size=(60, 4)).astype("float32")
    return X, (X[:, 0] > 0).astype(int)


def searched(X, y, **options):
    pipe = make_pipeline(TorchFeatureExtractor(mlp()), LogisticRegression())
    grid = {
        "torchfeatureextractor__layer": ["first", ["first", "second"], None],
        "logisticregression__C": [1e-4, 1.0],
    }
    return GridSearchCV(pipe, grid, cv=3, **options).fit(X, y)


class TestLayerScores:
    def test_of_a_search_the_best_candidate_of_each_layer(self, task):
        search = searched(*task)
        found = LayerScoreDisplay.from_estimator(search)
        assert found.layers == ["first", "first, second", "output"]
        results = pd.DataFrame(search.cv_results_)
        means = results.groupby(
            results["param_torchfeatureextractor__layer"].map(str), sort=False
        )["mean_test_score"].max()
        np.testing.assert_allclose(
            found.mean, means.loc[["first", "['first', 'second']", "None"]]
        )
        assert found.scores.shape == (3, 3)
        best = results["mean_test_score"].argmax()
        place = found.layers.index(found.best_layer)
        assert found.std[place] == pytest.approx(results["std_test_score"][best])

    def test_metrics(self, task):
        search = searched(*task, scoring=["accuracy", "roc_auc"], refit="roc_auc")
        found = LayerScoreDisplay.from_estimator(search)
        assert found.score_name == "roc_auc"
        assert found.mean.max() == search.cv_results_["mean_test_roc_auc"].max()
        other = LayerScoreDisplay.from_estimator(search, metric="accuracy")
        assert other.mean.max() == search.cv_results_["mean_test_accuracy"].max()
        words = r"`metric` must be one of 'accuracy', 'roc_auc', got 'f1'"
        with pytest.raises(ValueError, match=words):
            LayerScoreDisplay.from_estimator(search, metric="f1")
        single = LayerScoreDisplay.from_estimator(searched(*task, scoring="f1"))
        assert single.score_name == "f1"

    def test_of_a_halving_search_the_last_round(self, task):
        X, y = task
        pipe = make_pipeline(TorchFeatureExtractor(mlp()), LogisticRegression())
        grid = {"torchfeatureextractor__layer": ["first", "act", "second"]}
        search = HalvingGridSearchCV(
            pipe, grid, cv=2, random_state=0, min_resources=20, factor=2
        ).fit(X, y)
        found = LayerScoreDisplay.from_estimator(search)
        results = search.cv_results_
        last = results["iter"] == results["iter"].max()
        assert results["mean_test_score"][last].max() in found.mean
        assert sorted(found.layers) == ["act", "first", "second"]

    def test_the_parameter_must_be_clear(self, task):
        X, y = task
        two = make_pipeline(
            TorchFeatureExtractor(mlp()),
            FunctionTransformer(),
            TorchFeatureExtractor(Doubling()),
            LogisticRegression(),
        )
        grid = {
            "torchfeatureextractor-1__layer": ["first", "act"],
            "torchfeatureextractor-2__layer": ["blocks.0"],
        }
        search = GridSearchCV(two, grid, cv=2).fit(X, y)
        with pytest.raises(ValueError, match=r"`param` must name one parameter of the"):
            LayerScoreDisplay.from_estimator(search)
        found = LayerScoreDisplay.from_estimator(
            search, param="torchfeatureextractor-1__layer"
        )
        assert found.layers == ["first", "act"]
        other = GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2).fit(X, y)
        with pytest.raises(ValueError, match=r"`param` must be given, got None.* 'C'"):
            LayerScoreDisplay.from_estimator(other)

    def test_one_pass_equals_the_search(self, task):
        X, y = task
        search = searched(X, y)
        found = LayerScoreDisplay.from_estimator(search, param=None)
        shortcut = layer_scores(
            TorchFeatureExtractor(mlp(), layer=["first", "second"]),
            X,
            y,
            LogisticRegression(C=1.0),
            cv=3,
        )
        assert shortcut.layers == ["first", "second"]
        results = search.cv_results_
        for layer, row in zip(shortcut.layers, shortcut.scores, strict=True):
            alone = cross_val_score(
                make_pipeline(
                    TorchFeatureExtractor(mlp(), layer=layer), LogisticRegression()
                ),
                X,
                y,
                cv=3,
            )
            np.testing.assert_allclose(row, alone)
        assert found.scores.shape[1] == results["split0_test_score"].ndim * 3

    def test_every_row_runs_once(self, task):
        X, y = task
        model = Counting(mlp())
        extractor = TorchFeatureExtractor(model, layer="inner.*")
        found = layer_scores(extractor, X, y, LogisticRegression(), cv=5)
        assert found.layers == ["inner.first", "inner.act", "inner.second"]
        assert model.tally.rows == len(X)
        assert not hasattr(extractor, "_layer_widths")

    def test_every_layer_gets_the_same_folds(self, task):
        X, y = task
        found = LayerScoreDisplay.from_embeddings(
            {"a": X, "b": X.copy()},
            X[:, 1],
            Ridge(),
            cv=KFold(4, shuffle=True),
            scoring="neg_mean_absolute_error",
        )
        np.testing.assert_array_equal(found.scores[0], found.scores[1])
        assert found.score_name == "neg_mean_absolute_error"
        with pytest.raises(ValueError, match=r"`embeddings` must name at least one"):
            LayerScoreDisplay.from_embeddings({}, y, Ridge())

    def test_the_table(self):
        found = LayerScoreDisplay(["a", "b"], np.array([[0.5, 0.7], [0.2, 0.4]]))
        frame = pd.DataFrame(found.to_dict())
        assert list(frame.columns) == ["layer", "mean", "std", "split0", "split1"]
        np.testing.assert_allclose(frame["mean"], [0.6, 0.3])
        np.testing.assert_allclose(frame["std"], [0.1, 0.1])

    def test_printed_it_is_a_table(self):
        found = LayerScoreDisplay(["a", "bcd"], np.array([[0.5, 0.7], [0.2, 0.4]]))
        assert str(found) == "a    0.60 ± 0.10  (best)\nbcd  0.30 ± 0.10"
        large = LayerScoreDisplay(["a"], np.array([[-1234.5, -1100.2]]))
        assert str(large) == "a  -1167 ± 67  (best)"
        alone = LayerScoreDisplay(["a", "b"], np.array([[0.25], [np.nan]]))
        assert str(alone) == "a  0.250 ± 0.000  (best)\nb  nan ± nan"

    def test_layers_too_many_for_a_bar_each_share_a_band(self):
        scores = np.random.default_rng(0).uniform(size=(150, 5))
        few = LayerScoreDisplay(list("ab"), scores[:2]).plot().ax_
        assert len(few.collections) == 2  # bars: of the best, of the others
        names = [str(k) for k in range(150)]
        many = LayerScoreDisplay(names, scores).plot()
        (band,) = many.ax_.collections
        low, high = band.get_datalim(many.ax_.transData).intervalx
        assert low == pytest.approx((many.mean - many.std).min())
        assert high == pytest.approx((many.mean + many.std).max())

    def test_a_layer_that_failed_is_not_the_best(self):
        found = LayerScoreDisplay(["a", "b"], np.array([[np.nan, 1], [0.2, 0.4]]))
        assert found.best_layer == "b"
        found.plot()


class TestByLayer:
    def test_each_layer_is_what_it_is_alone(self, task):
        X, _ = task
        extractor = TorchFeatureExtractor(mlp(), layer=["second", "first"])
        found = embeddings_by_layer(extractor, X)
        assert list(found) == ["second", "first"]
        for layer, Z in found.items():
            alone = TorchFeatureExtractor(mlp(), layer=layer).transform(X)
            np.testing.assert_allclose(Z, alone, rtol=1e-6)

    @pytest.mark.parametrize(
        ("layer", "name"), [(None, "output"), ("first", "first"), (["act"], "act")]
    )
    def test_one_layer(self, task, layer, name):
        extractor = TorchFeatureExtractor(mlp(), layer=layer)
        found = embeddings_by_layer(extractor.set_output(transform="pandas"), task[0])
        assert list(found) == [name]
        assert isinstance(found[name], np.ndarray)

    def test_several_axes_are_an_error(self, rng):
        X = rng.normal(size=(3, 3, 6, 6)).astype("float32")
        extractor = TorchFeatureExtractor(torch.nn.Conv2d(3, 2, 3), pooling=None)
        with pytest.raises(
            ValueError, match=r"`pooling` of the extractor must give one"
        ):
            embeddings_by_layer(extractor, X)


class TestEmbedding:
    def test_pca_with_its_shares_of_variance(self, rng):
        Z = rng.normal(size=(50, 6)) * [5, 3, 1, 1, 1, 1]
        found = EmbeddingDisplay.from_embeddings(Z)
        expected = PCA(2, random_state=0).fit(Z)
        np.testing.assert_allclose(found.points, expected.transform(Z), rtol=1e-9)
        np.testing.assert_allclose(found.explained, expected.explained_variance_ratio_)
        ax = found.plot().ax_
        share = expected.explained_variance_ratio_[0]
        assert ax.get_xlabel() == f"PCA 1 ({share:.1%} of variance)"

    def test_any_projection(self, rng):
        Z = rng.normal(size=(50, 6))
        found = EmbeddingDisplay.from_embeddings(Z, projection=TruncatedSVD(3))
        assert found.points.shape == (50, 2)
        plain = EmbeddingDisplay.from_embeddings(Z, projection=StandardScaler())
        assert plain.explained is None
        np.testing.assert_allclose(
            plain.points, StandardScaler().fit_transform(Z)[:, :2]
        )
        assert plain.plot().ax_.get_xlabel() == "StandardScaler 1"
        with pytest.raises(
            ValueError, match=r"`projection` must give at least 2 colum"
        ):
            EmbeddingDisplay.from_embeddings(Z, projection=PCA(1))

    def test_from_a_transformer(self, task):
        X, y = task
        found = EmbeddingDisplay.from_estimator(TorchFeatureExtractor(mlp()), X, y)
        Z = TorchFeatureExtractor(mlp()).transform(X)
        expected = EmbeddingDisplay.from_embeddings(Z, y)
        np.testing.assert_array_equal(found.points, expected.points)

    def test_classes_have_a_colour_a_mark_and_a_count_each(self, rng):
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
            len({group.get_paths()[0].vertices.tobytes() for group in ax.collections})
            == 3
        )

    def test_of_many_classes_the_largest_are_told_apart(self, rng):
        sizes = [2, 30, 4, 20, 6, 25, 8, 15, 10, 40]
        y = np.repeat(np.arange(10), sizes)
        ax = EmbeddingDisplay.from_embeddings(rng.normal(size=(160, 3)), y).plot().ax_
        words = [text.get_text() for text in ax.get_legend().get_texts()]
        named = ["1 (30)", "3 (20)", "5 (25)", "7 (15)", "8 (10)", "9 (40)"]
        assert words == ["4 other classes (20)", *named]
        assert len(COLORS) == len(MARKERS)

    def test_long_names_of_classes_stay_different(self, rng):
        y = np.repeat(LONG[:9], [9, 8, 8, 8, 8, 8, 8, 1, 1])
        display = EmbeddingDisplay.from_embeddings(rng.normal(size=(59, 3)), y).plot()
        words = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert words[:2] == ["3 other classes (10)", "…blocks.0… (9)"]
        assert len(set(words)) == 7

    def test_numbers_have_a_scale(self, rng):
        y = torch.tensor(rng.normal(size=30))
        display = EmbeddingDisplay.from_embeddings(rng.normal(size=(30, 3)), y).plot()
        assert display.ax_.get_legend() is None
        assert len(display.figure_.axes) == 2

    def test_names_are_shown_as_they_are(self, rng):
        y = pd.Series(np.repeat(["_a", "b$^$", "$c$"], 10), name="$^$")
        display = EmbeddingDisplay.from_embeddings(rng.normal(size=(30, 3)), y).plot()
        legend = display.ax_.get_legend()
        words = [text.get_text() for text in legend.get_texts()]
        assert words == ["$c$ (10)", " _a (10)", "b$^$ (10)"]
        display.figure_.draw_without_rendering()
        assert not legend.get_title().get_parse_math()

    def test_points_that_are_all_one_have_no_shares(self):
        with pytest.warns(RuntimeWarning, match="invalid value"):  # scikit-learn's
            display = EmbeddingDisplay.from_embeddings(np.ones((5, 3)))
        assert display.plot().ax_.get_xlabel() == "PCA 1"

    def test_labels_of_several_kinds_are_classes(self, rng):
        Z = rng.normal(size=(4, 3))
        display = EmbeddingDisplay.from_embeddings(Z, [1, "a", 1, "b"]).plot()
        words = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert words == ["1 (2)", "a (1)", "b (1)"]

    @pytest.mark.parametrize(
        "y",
        [["a", None, "b"], [0.5, np.nan, 0.1], pd.Series(["a", pd.NA, "b"])],
        ids=str,
    )
    def test_a_label_that_is_missing_is_named(self, rng, y):
        with pytest.raises(ValueError, match=r"`y` must have a value .* but row 1 has"):
            EmbeddingDisplay.from_embeddings(rng.normal(size=(3, 3)), y)

    def test_one_column_is_no_plane(self, rng):
        with pytest.raises(ValueError, match="`Z` must have at least 2 columns"):
            EmbeddingDisplay.from_embeddings(rng.normal(size=(3, 1)))

    def test_labels_of_another_length_are_an_error(self, rng):
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
            EmbeddingDisplay.from_embeddings(rng.normal(size=(9, 3)), [0, 1])


class TestSimilarity:
    def test_each_with_each(self, rng):
        embeddings = {
            name: rng.normal(size=(30, k + 2)) for k, name in enumerate("abc")
        }
        found = SimilarityDisplay.from_embeddings(embeddings)
        for i, one in enumerate(embeddings.values()):
            for j, another in enumerate(embeddings.values()):
                expected = stats.cka(one, another)
                assert found.similarity[i, j] == pytest.approx(expected, rel=1e-9)
        assert found.row_names == found.column_names == ["a", "b", "c"]
        assert found.measure_name == "linear CKA"

    def test_of_two_models(self, task):
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
    def test_any_measure(self, rng, measure, name):
        X, Y = rng.normal(size=(2, 30, 4))
        found = SimilarityDisplay.from_embeddings({"X": X}, {"Y": Y}, measure=measure)
        assert found.similarity == pytest.approx(float(measure(X, Y)))
        assert found.measure_name == name
        named = SimilarityDisplay.from_embeddings({"X": X}, measure_name="alike")
        assert named.plot().figure_.axes[1].get_ylabel() == "alike"

    def test_nothing_to_compare_is_an_error(self):
        with pytest.raises(ValueError, match=r"must name at least one embedding"):
            SimilarityDisplay.from_embeddings({})

    def test_numbers_are_written_where_they_fit(self):
        few = SimilarityDisplay(np.eye(3), ["a"] * 3, ["b"] * 3).plot().ax_
        assert [text.get_text() for text in few.texts][:2] == ["1.00", "0.00"]
        names = [str(k) for k in range(90)]
        many = SimilarityDisplay(np.eye(90), names, names)
        assert not many.plot().ax_.texts


class TestDrift:
    def test_features_are_those_of_ks_drift(self, rng):
        X, Y = rng.normal(size=(2, 80, 6))
        Y[:, [1, 4]] += [1.0, 2.0]
        found = DriftDisplay.from_embeddings(X, Y, level=0.01, method="by")
        expected = stats.ks_drift(X, Y, method="by")
        np.testing.assert_array_equal(found.result.pvalue, expected.pvalue)
        np.testing.assert_array_equal(found.drifted.nonzero()[0], [1, 4])
        assert list(found.order[:2]) == [4, 1]

    def test_names(self, task):
        X, _ = task
        frames = [pd.DataFrame(X, columns=list("abcd")) for _ in range(2)]
        assert DriftDisplay.from_embeddings(*frames).feature_names == list("abcd")
        assert DriftDisplay.from_embeddings(X, X).feature_names == list("0123")
        named = DriftDisplay.from_embeddings(X, X, feature_names="wxyz")
        assert named.feature_names == list("wxyz")
        with pytest.raises(
            ValueError, match=r"must name each of the 4 features, got 3"
        ):
            DriftDisplay.from_embeddings(X, X, feature_names="xyz")

    def test_from_a_transformer(self, task):
        X, _ = task
        extractor = TorchFeatureExtractor(mlp(), layer=["first", "second"])
        found = DriftDisplay.from_estimator(extractor, X, X + 1)
        assert found.feature_names[8] == "8"
        found = DriftDisplay.from_estimator(extractor.fit(X), X, X + 1)
        assert found.feature_names[8] == "second_0"

    def test_what_is_drawn(self, rng):
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
    def test_the_level_is_a_probability(self, level):
        with pytest.raises(ValueError, match=r"`level` must be between 0 and 1"):
            DriftDisplay.from_embeddings(np.eye(3), np.eye(3), level=level)


def displays(names, seed=0):
    """Make one of each kind, with these names where it has names."""
    rng = np.random.default_rng(seed)
    n = len(names)
    X, Y = rng.normal(size=(2, 40, n))
    return {
        "layers": LayerScoreDisplay(names, rng.uniform(size=(n, 5))),
        "similarity": SimilarityDisplay(rng.uniform(size=(n, n)), names, names),
        "drift": DriftDisplay.from_embeddings(X, Y, feature_names=names),
        "embedding": EmbeddingDisplay.from_embeddings(
            rng.normal(size=(200, 5)), rng.choice(names, size=200)
        ),
    }


SHORT = [f"encoder.layer.{k}" for k in range(6)]
MIXED = ["embeddings.LayerNorm", *(f"{name}.output.LayerNorm" for name in SHORT)]
NAMES = {
    "short": SHORT,
    "mixed": MIXED,
    "long": LONG,
    "one": ["output"],
    "many": [f"{k}" for k in range(150)],
}


def seen_labels(axis):
    """Give the labels within view; matplotlib keeps others beyond it."""
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    return [label for place, label in ticks if low <= place <= high]


def assert_words_are_whole_and_apart(ax):
    ax.figure.draw_without_rendering()
    canvas = ax.figure.bbox.padded(1)
    for axis in (ax.xaxis, ax.yaxis):
        boxes = [label.get_window_extent() for label in seen_labels(axis)]
        assert boxes
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
        assert all(canvas.contains(*box.min) for box in boxes)
        assert all(canvas.contains(*box.max) for box in boxes)
    for words in (ax.xaxis.label, ax.yaxis.label, ax._left_title):
        if words.get_text():
            box = words.get_window_extent()
            assert canvas.x0 <= box.x0 <= box.x1 <= canvas.x1, words.get_text()
    numbers = [number.get_window_extent() for number in ax.texts]
    assert not any(one.overlaps(other) for one, other in pairwise(numbers))


@pytest.mark.parametrize("kind", ["layers", "similarity", "drift", "embedding"])
class TestDrawing:
    @pytest.mark.parametrize("names", NAMES)
    def test_words_are_whole_and_apart(self, kind, names):
        display = displays(NAMES[names])[kind].plot()
        assert_words_are_whole_and_apart(display.ax_)

    @pytest.mark.parametrize("size", [(7, 3.4), (10, 4.6)], ids=str)
    @pytest.mark.parametrize("names", NAMES)
    def test_so_they_are_in_axes_side_by_side(self, kind, names, size):
        _, axes = plt.subplots(1, 2, figsize=size, layout="constrained")
        for ax in axes:
            displays(NAMES[names])[kind].plot(ax)
        for ax in axes:
            assert_words_are_whole_and_apart(ax)
        left, right = (ax.get_tightbbox() for ax in axes)
        assert left.x1 <= right.x0 + 1

    def test_names_with_signs_of_formulas_are_words(self, kind):
        display = displays([f"a$^$ {name}" for name in SHORT])[kind].plot()
        display.figure_.draw_without_rendering()
        assert_words_are_whole_and_apart(display.ax_)

    def test_on_given_axes(self, kind):
        figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
        display = displays(SHORT)[kind]
        assert not hasattr(display, "ax_")
        assert display.plot(axes[1]) is display
        assert (display.ax_, display.figure_) == (axes[1], figure)
        assert not axes[0].has_data()

    def test_on_axes_of_its_own(self, kind):
        display = displays(SHORT)[kind].plot()
        assert display.figure_ is display.ax_.figure

    def test_on_axes_outside_of_a_grid(self, kind):
        ax = plt.figure(figsize=(11, 8)).add_axes((0.4, 0.4, 0.4, 0.5))
        assert displays(MIXED)[kind].plot(ax).ax_ is ax
        assert_words_are_whole_and_apart(ax)

    def test_in_a_part_of_a_figure(self, kind):
        left, _ = plt.figure(figsize=(9, 4), layout="constrained").subfigures(1, 2)
        display = displays(SHORT)[kind].plot(left.subplots())
        assert display.figure_ is left


def test_names_that_differ_stay_different():
    assert short_names(LONG)[:2] == ["…blocks.0…", "…blocks.1…"]
    assert short_names(SHORT) == SHORT
    mixed = ["a" * 40 + str(k) + "b" * 40 for k in range(3)]
    assert len(set(short_names(mixed))) == 3
    assert short_names([LONG[0]]) == ["vision_mod…ttention.output.dense"]
    assert short_names([]) == []


def test_values_need_no_matplotlib(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    display = displays(SHORT)["layers"]
    words = r"LayerScoreDisplay.plot needs .*'matplotlib'.*sklearn-torch-bridge\[plot\]"
    with pytest.raises(ImportError, match=words):
        display.plot()


def test_importing_imports_no_matplotlib():
    code = (
        "import sys, sklearn_torch_bridge.inspection\n"
        "print('matplotlib' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"
