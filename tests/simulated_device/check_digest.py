"""Digests of what lies on a device: those of the equal values on the host."""

import torch
from torch import nn

from sklearn_torch_bridge._digest import content_digests, digest
from sklearn_torch_bridge._known import fingerprint_module


def test_rows_have_the_keys_that_they_have_on_the_host(device):
    rows = torch.arange(12.0).reshape(4, 3)
    assert content_digests(rows.to(device)) == content_digests(rows)
    assert content_digests(list(rows.to(device))) == content_digests(rows)


def test_a_module_has_the_fingerprint_that_it_has_on_the_host(device):
    module = nn.Sequential(nn.Linear(40, 40), nn.BatchNorm1d(40))
    expected = fingerprint_module(module)
    assert fingerprint_module(module.to(device)) == expected


def test_edits_on_the_device_are_seen(device):
    module = nn.Linear(40, 40).to(device)
    before = fingerprint_module(module)
    assert fingerprint_module(module) == before
    module.weight.data[3, 4] += 1
    assert fingerprint_module(module) != before


def test_the_device_itself_is_a_setting(device):
    assert digest(torch.device(device)) != digest(torch.device("cpu"))
