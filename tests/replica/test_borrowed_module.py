"""A module that cannot be copied is restored, and runs in one thread at a time."""

import threading
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica import replica
from tests.replica.test_make_replica import snapshot
from tests.replica.test_module_copy import Capturing


@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
def test_what_cannot_be_copied_is_put_back(raises):
    module = Capturing(closure=True)
    module.norm = nn.BatchNorm1d(4)
    module.inner.eval()
    before = snapshot(module)
    expected = pytest.raises(RuntimeError, match="boom") if raises else nullcontext()
    with expected, replica(module, "auto") as (own, place, _):
        assert own is module
        assert place == torch.device("cpu")
        assert not module.training
        module.norm.running_mean += 1
        if raises:
            msg = "boom"
            raise RuntimeError(msg)
    assert snapshot(module) == before


def test_what_cannot_be_copied_is_used_by_one_thread_at_a_time():
    module = Capturing(closure=True)
    entered, leave, second_in = (threading.Event() for _ in range(3))

    def hold():
        with replica(module, "cpu"):
            entered.set()
            leave.wait(10)

    def follow():
        with replica(module, "cpu"):
            second_in.set()

    holder = threading.Thread(target=hold)
    follower = threading.Thread(target=follow)
    holder.start()
    assert entered.wait(10)
    follower.start()
    assert not second_in.wait(0.2)
    leave.set()
    assert second_in.wait(10)
    holder.join()
    follower.join()
