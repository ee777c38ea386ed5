import numpy as np
import pytest
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, _free_memory
from tests.tiny_models import Counting, Returning

FILES = {
    "memory.max": "1000000000\n",
    "memory.current": "900000000\n",
    "memory.stat": "anon 5\ninactive_file 200000000\n",
    "memory/memory.limit_in_bytes": "1000000000",
    "memory/memory.usage_in_bytes": "400000000",
    "memory/memory.stat": "total_inactive_file 1",
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Give a folder with what a machine tells about its memory."""
    monkeypatch.setattr(_free_memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(_free_memory, "_MEMINFO", tmp_path / "meminfo")
    (tmp_path / "memory").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  700000 kB\n")
    return tmp_path


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ([], 700_000 * 1024),
        (["memory.max", "memory.current", "memory.stat"], 300_000_000),
        ([name for name in FILES if "/" in name], 600_000_001),
    ],
    ids=["no group", "group 2", "group 1"],
)
def test_free_memory_is_the_least_that_machine_and_group_leave(machine, files, free):
    for name in files:
        (machine / name).write_text(FILES[name])
    assert _free_memory.available_bytes() == free


def test_a_group_without_a_limit_says_nothing(machine):
    (machine / "memory.max").write_text("max\n")
    (machine / "memory.current").write_text("5\n")
    assert _free_memory.available_bytes() == 700_000 * 1024


def test_where_nothing_tells_nothing_is_refused(machine):
    (machine / "meminfo").unlink()
    assert _free_memory.available_bytes() is None
    _free_memory.check_fits((10**18,), np.dtype("f4"))


@pytest.mark.usefixtures("machine")
def test_a_result_that_does_not_fit_is_refused_before_most_of_the_work():
    counting = Counting(Returning(lambda x: x.repeat(1, 100_000)))
    X = np.ones((20_000, 1))
    extractor = TorchFeatureExtractor(counting, batch_size=4)
    words = r"shape \(20000, 100000\) .* takes 8.0 GB, and 716.8 MB .*transform_to_file"
    with pytest.raises(MemoryError, match=words):
        extractor.transform(X)
    assert counting.tally.rows == 4


@pytest.mark.usefixtures("machine")
def test_after_fit_it_is_refused_before_any_work():
    counting = Counting(Returning(lambda x: x.repeat(1, 100_000)))
    X = np.ones((20_000, 1))
    extractor = TorchFeatureExtractor(counting).fit(X)
    with pytest.raises(MemoryError, match=r"takes 8\.0 GB"):
        extractor.transform(X)
    assert counting.tally.rows == 1


def test_small_results_are_not_asked_about(machine):
    (machine / "meminfo").write_text("MemAvailable: 0 kB\n")
    assert TorchFeatureExtractor(nn.Identity()).transform(np.ones((9, 2))).size == 18
