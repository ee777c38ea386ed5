"""Rows to compute statistics of, and rotations of their columns."""

import numpy as np
from hypothesis import strategies as st
from scipy.stats import ortho_group

SEEDS = st.integers(0, 2**16)


def rows(seed=0, n_samples=40, n_features=5, shift=0.0):
    """Draw rows with correlated columns of different scale."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(n_features, n_features))
    return rng.normal(size=(n_samples, n_features)) @ mix + shift


def rotation(seed, n_features):
    if n_features == 1:
        return np.ones((1, 1))
    return ortho_group.rvs(n_features, random_state=seed)
