"""Fixtures that every test may ask for."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    """Give the one source of chance, seeded."""
    return np.random.default_rng(0)
