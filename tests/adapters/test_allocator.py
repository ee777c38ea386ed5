"""Workers of Dask have large blocks of memory again without the system."""

import os
import platform
import subprocess
import sys

import pytest

from sklearn_torch_bridge.adapters._allocator import keep_large_blocks

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="these limits are glibc's"
)

FAULTS = """
import resource, sys
import numpy as np
from sklearn_torch_bridge.adapters._allocator import keep_large_blocks

if sys.argv[1] == "kept":
    assert keep_large_blocks()
np.ones(1 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(1 << 20)  # 8 MB, 2,048 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    """Count pages fetched from the system by a process as Dask starts it."""
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"},
        capture_output=True,
        check=True,
    )
    return int(run.stdout)


def test_memory_of_a_large_array_is_had_again():
    assert faults("kept") < 0.1 * faults("as Dask has it")


def test_who_set_a_limit_keeps_it(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")
    assert not keep_large_blocks()


def test_nothing_is_done_where_no_limit_is_set(monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    assert not keep_large_blocks()
