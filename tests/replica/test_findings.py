import gc

import pytest
from torch import nn

from sklearn_torch_bridge._replica import _findings, findings_of
from sklearn_torch_bridge._replica._findings import Draws, Findings


def test_findings_are_of_one_module_and_go_with_it():
    gc.collect()  # those of other tests
    module, other = nn.Identity(), nn.Identity()
    assert findings_of(module) is findings_of(module)
    assert findings_of(module) is not findings_of(other)
    held = len(_findings._KNOWN)
    del module
    gc.collect()
    assert len(_findings._KNOWN) == held - 1


def test_a_module_without_a_hash_has_findings():
    class Comparing(nn.Module):
        __hash__ = None

        def __eq__(self, other):
            return True

    module, other = Comparing(), Comparing()
    assert findings_of(module) is not findings_of(other)


def test_what_was_seen_holds_for_one_make_of_the_module():
    findings = Findings()
    findings.hold_for(["a", 1])
    findings.seen.add("kind")
    findings.hold_for(["a", 1])
    assert findings.seen == {"kind"}
    findings.hold_for(["a", 2])
    assert findings.seen == set()


def test_only_draws_of_whole_tensors_want_rows_alone():
    findings = Findings(draws={("a",): Draws.NUMBERS, ("b",): Draws.ROWS})
    assert not findings.needs_rows_alone(("a",))
    assert findings.needs_rows_alone(("b",))
    assert not findings.needs_rows_alone(())


def test_a_warning_comes_once():
    findings = Findings()
    with pytest.warns(UserWarning, match="beware"):
        findings.warn_once("beware")
    findings.warn_once("beware")
