"""Rows to classify; figures are drawn in memory and closed."""

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

mpl.use("agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def task(rng):
    X = rng.normal(size=(60, 4)).astype("float32")
    return X, (X[:, 0] > 0).astype(int)
