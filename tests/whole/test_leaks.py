"""A thousand runs leave what one leaves: memory, files, threads, hooks, temporaries."""

import gc
import os
import pickle
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from sklearn.base import clone

from sklearn_torch_bridge import (
    EmbeddingCache,
    ForwardError,
    TorchFeatureExtractor,
    precompute,
)
from sklearn_torch_bridge.models import _kept_models, _load_model
from tests import families
from tests.tiny_models import mlp

pytestmark = pytest.mark.slow

MEMORY = Path("/dev/shm")  # noqa: S108 - only listed
ABOUT_SCRIPT = pytest.mark.filterwarnings(
    # torch.jit is deprecated, and its users are still ours.
    "ignore:.*torch.jit.*:DeprecationWarning"
)


def names_in(folder):
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def shared_files():
    """List what this process has in shared memory; joblib keeps empty folders."""
    folders = MEMORY.glob(f"joblib_memmapping_folder_{os.getpid()}_*")
    return [path for folder in folders for path in folder.iterdir()]


def held():
    """Give what a process holds beside its memory."""
    gc.collect()
    process = psutil.Process()
    return {
        "files": process.num_fds(),
        "threads": threading.active_count(),
        "maps": sum("/dev/shm" in one.path for one in process.memory_maps()),  # noqa: S108 - only counted
    }


def check_flat(work, times, *, first=100, most_bytes=15e6):
    """Run `work` some times, and then many: nothing that counts is more."""
    temporary = Path(tempfile.gettempdir())
    for number in range(first):
        work(number)
    before, names = held(), names_in(temporary)
    memory = psutil.Process().memory_info().rss
    for number in range(first, first + times):
        work(number)
    after = held()
    grown = psutil.Process().memory_info().rss - memory
    assert all(after[name] <= before[name] for name in before), (before, after)
    assert grown < most_bytes, grown
    assert shared_files() == []
    # Others use this folder as well, but by far not as often.
    assert len(names_in(temporary) - names) < times / 5


@pytest.fixture
def X(rng):
    return rng.normal(size=(40, 4)).astype(np.float32)


def test_a_thousand_transforms_by_a_cache(tmp_path, X):
    module = mlp()
    extractor = TorchFeatureExtractor(
        module, batch_size=7, cache=tmp_path / "a.db", num_workers=2
    )

    def work(number):
        extractor.transform(X + np.float32(number))
        with pytest.raises(ForwardError):
            extractor.transform(np.ones((3, 9), np.float32))
        if number % 50 == 0:
            extractor.cache = EmbeddingCache(tmp_path / f"{number}.db")
            precompute(extractor, X)

    check_flat(work, 1000)
    assert not any(part._forward_hooks for part in module.modules())


def test_a_thousand_files(tmp_path, X):
    extractor = TorchFeatureExtractor(mlp(), batch_size=7)
    path = tmp_path / "Z.npy"

    def work(number):
        extractor.transform_to_file(X, path)
        if number % 2:
            with pytest.raises(FileExistsError):
                extractor.transform_to_file(X + 1, path)
            for left in tmp_path.iterdir():
                left.unlink()

    check_flat(work, 1000)


def test_a_thousand_clones_copies_and_pickles(tmp_path, X):
    module = mlp(n_out=200)
    extractor = TorchFeatureExtractor(module, cache=tmp_path / "a.db").fit(X)

    def work(_):
        clone(extractor).transform(X)
        pickle.loads(pickle.dumps(extractor)).transform(X)  # noqa: S301 - made here

    check_flat(work, 1000)


def test_two_hundred_saves_and_loads(tmp_path, X):
    module = mlp(n_out=500)
    extractor = TorchFeatureExtractor(module, batch_size=7).fit(X)

    def work(_):
        extractor.save(tmp_path / "saved")
        TorchFeatureExtractor.load(tmp_path / "saved", mlp_of_500).transform(X)
        with pytest.raises(ValueError, match="as saved"):
            TorchFeatureExtractor.load(tmp_path / "saved", mlp)

    check_flat(work, 200, first=20)
    assert sorted(names_in(tmp_path / "saved")) == ["config.json", "model.safetensors"]


def mlp_of_500():
    return mlp(n_out=500)


def test_fifty_models_of_strings(tmp_path):
    """Eight of those that nobody uses are kept: no more, however many there are."""
    config, _ = families.TEXTS["bert"]
    families.save(tmp_path / "0", config, families.make_tokenizer())

    def work(number):
        folder = tmp_path / str(number)
        if number:
            shutil.copytree(tmp_path / "0", folder)
        Z = TorchFeatureExtractor(f"hf:{folder}").transform(["a b", "c"])
        assert Z.shape == (2, 16)
        with suppress(ValueError):
            TorchFeatureExtractor(f"hf:{tmp_path / 'gone'}").transform(["a"])

    check_flat(work, 50, first=12)
    assert len(_load_model._BY_STRING._kept) <= _kept_models._MOST_KEPT == 8


@ABOUT_SCRIPT
@pytest.mark.parametrize("prefix", ["torchscript", "export"])
def test_fifty_programs(tmp_path, X, prefix):
    module = mlp().eval()
    first = tmp_path / "0.pt2"
    if prefix == "torchscript":
        torch.jit.save(torch.jit.script(module), first)
    else:
        rows = torch.export.Dim.DYNAMIC
        example = (torch.zeros(2, 4),)
        torch.export.save(
            torch.export.export(module, example, dynamic_shapes=({0: rows},)), first
        )

    def work(number):
        path = tmp_path / f"{number}.pt2"
        if number:
            shutil.copy(first, path)
        TorchFeatureExtractor(f"{prefix}:{path}").transform(X)
        damaged = tmp_path / f"damaged{number}.pt2"
        damaged.write_bytes(first.read_bytes()[:-50])
        with pytest.raises(ValueError, match="must be a file"):
            TorchFeatureExtractor(f"{prefix}:{damaged}").transform(X)

    check_flat(work, 50, first=12, most_bytes=40e6)


def test_fifty_searches_by_workers_leave_no_shared_memory(X):
    """Weights cross as files in memory, which the last task takes away."""
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    module = mlp(n_out=40_000)  # 1.3 MB, so that joblib maps it
    extractor = TorchFeatureExtractor(module)

    def work(_):
        Parallel(n_jobs=2)(delayed(width)(extractor, X[:2]) for _ in range(2))

    try:
        check_flat(work, 50, first=5)
    finally:
        get_reusable_executor().shutdown(wait=True)


def width(extractor, X):
    return extractor.transform(X).shape[1]
