import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "saved"


@pytest.fixture
def X(rng):
    return rng.normal(size=(6, 4)).astype(np.float32)
