"""Words of every display are whole and apart, however many and long they are."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from matplotlib import pyplot as plt

from sklearn_torch_bridge.inspection import (
    DriftDisplay,
    EmbeddingDisplay,
    LayerScoreDisplay,
    SimilarityDisplay,
)
from sklearn_torch_bridge.inspection._figure_style import short_names

LONG = [f"vision_model.encoder.blocks.{k}.attention.output.dense" for k in range(24)]


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
    """Return the labels within view; matplotlib keeps others beyond it."""
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

    @pytest.mark.parametrize(
        "size", [(7, 3.4), pytest.param((10, 4.6), marks=pytest.mark.slow)], ids=str
    )
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
