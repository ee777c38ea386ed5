import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica import check_layers, taps
from sklearn_torch_bridge._types import Inputs
from tests.tiny_models import Doubling, Times, mlp

ONE = Inputs(args=(torch.ones(1, 1),))


def record_layers(module, layers, inputs=ONE):
    recorded = {}
    with taps(
        module, layers, lambda name, value: recorded.update({name: value})
    ) as run:
        run(inputs)
    return recorded


class Twice(nn.Module):
    """Calls one submodule twice, and holds it under two names."""

    def __init__(self):
        super().__init__()
        self.step = Times(3)
        self.alias = self.step

    def forward(self, x):
        return self.step(self.step(x))


def test_taps_record_what_layers_return_and_stop_after_the_last():
    module = Doubling(5)
    recorded = record_layers(module, ("blocks.2", "blocks.0"))
    assert {name: value.item() for name, value in recorded.items()} == {
        "blocks.0": 2,
        "blocks.2": 8,
    }
    assert [block.calls for block in module.blocks] == [1, 1, 1, 0, 0]


def test_without_layers_the_output_is_recorded():
    assert record_layers(Doubling(2), ())[""].item() == 4


@pytest.mark.parametrize(
    ("layer", "expected"),
    [("step", 3), ("step:0", 3), ("step:1", 9), ("alias", 3), ("alias:1", 9)],
)
def test_each_call_of_a_module_can_be_asked_for(layer, expected):
    module = Twice()
    (name,) = check_layers(module, layer)
    assert record_layers(module, (name,))[layer].item() == expected


def test_two_calls_and_an_alias_in_one_pass():
    recorded = record_layers(Twice(), ("step", "step:1", "alias"))
    assert {name: value.item() for name, value in recorded.items()} == {
        "step": 3,
        "step:1": 9,
        "alias": 3,
    }


def test_a_second_forward_counts_calls_anew():
    recorded = []
    with taps(
        Twice(), ("step",), lambda _, value: recorded.append(value.item())
    ) as run:
        run(ONE)
        run(ONE)
    assert recorded == [3, 3]


class Swallowing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Times(2)

    def forward(self, x):
        try:
            return self.inner(x)
        except Exception:  # noqa: BLE001 - as careless as some models are
            return x


def test_a_model_that_swallows_exceptions_is_stopped_all_the_same():
    module = nn.Sequential(Swallowing(), Times(5))
    assert record_layers(module, ("0.inner",))["0.inner"].item() == 2
    assert module[1].calls == 0


@pytest.mark.parametrize("fails", ["forward", "record"])
def test_hooks_are_gone_after_a_failure(fails):
    module = mlp()

    def record(_, __):
        if fails == "record":
            msg = "from record"
            raise KeyError(msg)

    in_record = fails == "record"
    error = KeyError if in_record else RuntimeError
    words = "from record" if in_record else "shapes cannot be multiplied"
    wrong = Inputs(args=(torch.ones(1, 4 if in_record else 5),))
    recording = taps(module, ("second",), record)
    with pytest.raises(error, match=words), recording as run:
        run(wrong)
    assert not any(part._forward_hooks for part in module.modules())


class Shortcut(nn.Module):
    """Calls one submodule in a way that no hook records, and one not at all."""

    def __init__(self):
        super().__init__()
        self.recorded, self.bypassed, self.unused = (Times(2) for _ in range(3))

    def forward(self, x):
        return self.bypassed.forward(self.recorded(x))


def test_a_layer_that_does_not_run_is_an_error():
    with pytest.raises(
        ValueError, match=r"calls, but 'bypassed', 'unused' did not run"
    ):
        record_layers(Shortcut(), ("recorded", "unused", "bypassed"))


@pytest.mark.parametrize("layers", [("", "blocks.0"), ("blocks.1", "")], ids=str)
def test_the_output_is_recorded_beside_layers(layers):
    recorded = record_layers(Doubling(3), layers)
    values = {name: value.item() for name, value in recorded.items()}
    assert values == {
        layer: {"": 8, "blocks.0": 2, "blocks.1": 4}[layer] for layer in layers
    }


class Stubborn(nn.Module):
    """Goes on after whatever ends its first layer."""

    def __init__(self):
        super().__init__()
        self.first = Times(2)

    def forward(self, x):
        try:
            return self.first(x)
        except BaseException:  # noqa: BLE001 - that is the point
            return x


def test_a_model_that_catches_all_does_not_hide_what_was_recorded():
    assert record_layers(Stubborn(), ("first",))["first"].item() == 2
    assert record_layers(Stubborn(), ("", "first"))[""].item() == 2


def test_a_model_that_catches_all_does_not_hide_an_error():
    def record(name, _):
        raise KeyError(name)

    with (
        taps(Stubborn(), ("", "first"), record) as run,
        pytest.raises(KeyError, match="first"),
    ):
        run(ONE)


class Renaming(Stubborn):
    """Makes another error of whatever ends its first layer."""

    def forward(self, x):
        try:
            return self.first(x)
        except BaseException as error:
            msg = "the first layer failed"
            raise ValueError(msg) from error


def test_another_error_made_of_our_stop_does_not_hide_what_was_recorded():
    assert record_layers(Renaming(), ("first",))["first"].item() == 2
    with pytest.raises(ValueError, match="the first layer failed"):
        record_layers(nn.Sequential(Renaming(), Times(2)), ("1",), Inputs((None,)))
