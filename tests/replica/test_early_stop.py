import pytest
import torch
from torch import nn

from sklearn_torch_bridge._replica._early_stop import check_layers, taps
from sklearn_torch_bridge._types import Inputs
from tests.tiny_models import Doubling, Times, mlp

ONE = Inputs(args=(torch.ones(1, 1),))


def listen(module, layers, inputs=ONE):
    heard = {}
    with taps(module, layers, lambda name, value: heard.update({name: value})) as run:
        run(inputs)
    return heard


class Twice(nn.Module):
    """Calls one submodule twice, and holds it under two names."""

    def __init__(self):
        super().__init__()
        self.step = Times(3)
        self.alias = self.step

    def forward(self, x):
        return self.step(self.step(x))


def test_taps_hear_what_layers_return_and_stop_after_the_last():
    module = Doubling(5)
    heard = listen(module, ("blocks.2", "blocks.0"))
    assert {name: value.item() for name, value in heard.items()} == {
        "blocks.0": 2,
        "blocks.2": 8,
    }
    assert [block.calls for block in module.blocks] == [1, 1, 1, 0, 0]


def test_without_layers_the_output_is_heard():
    assert listen(Doubling(2), ())[""].item() == 4


@pytest.mark.parametrize(
    ("layer", "expected"),
    [("step", 3), ("step:0", 3), ("step:1", 9), ("alias", 3), ("alias:1", 9)],
)
def test_each_call_of_a_module_can_be_asked_for(layer, expected):
    module = Twice()
    (name,) = check_layers(module, layer)
    assert listen(module, (name,))[layer].item() == expected


def test_two_calls_and_an_alias_in_one_pass():
    heard = listen(Twice(), ("step", "step:1", "alias"))
    assert {name: value.item() for name, value in heard.items()} == {
        "step": 3,
        "step:1": 9,
        "alias": 3,
    }


def test_a_second_forward_counts_calls_anew():
    heard = []
    with taps(Twice(), ("step",), lambda _, value: heard.append(value.item())) as run:
        run(ONE)
        run(ONE)
    assert heard == [3, 3]


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
    assert listen(module, ("0.inner",))["0.inner"].item() == 2
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
    listening = taps(module, ("second",), record)
    with pytest.raises(error, match=words), listening as run:
        run(wrong)
    assert not any(part._forward_hooks for part in module.modules())


class Shortcut(nn.Module):
    """Calls one submodule in a way that no hook hears, and one not at all."""

    def __init__(self):
        super().__init__()
        self.heard, self.bypassed, self.unused = (Times(2) for _ in range(3))

    def forward(self, x):
        return self.bypassed.forward(self.heard(x))


def test_a_layer_that_does_not_run_is_an_error():
    with pytest.raises(
        ValueError, match=r"calls, but 'bypassed', 'unused' did not run"
    ):
        listen(Shortcut(), ("heard", "unused", "bypassed"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("encoder.layer.*", ["encoder.layer.0", "encoder.layer.1"]),
        ("*.layer.1", ["encoder.layer.1"]),
        ("**.dense", ["dense", "encoder.layer.0.dense", "encoder.layer.1.dense"]),
        ("encoder.**", None),
        ("encoder.layer.[!0]", ["encoder.layer.1"]),
        ("encoder.laye?.0", ["encoder.layer.0"]),
        (["dense", "encoder.layer.0"], ["dense", "encoder.layer.0"]),
        (["dense", "**.dense"], None),
    ],
    ids=str,
)
def test_globs_over_names(pattern, expected):
    layer = lambda: nn.ModuleDict({"dense": nn.Linear(1, 1)})  # noqa: E731 - twice below
    encoder = nn.ModuleDict({"layer": nn.ModuleList([layer(), layer()])})
    module = nn.ModuleDict({"dense": nn.Linear(1, 1), "encoder": encoder})
    names = [name for name, _ in module.named_modules() if name]
    if pattern == "encoder.**":
        expected = [name for name in names if name.startswith("encoder.")]
    if pattern == ["dense", "**.dense"]:  # each once, in the order given
        expected = [name for name in names if name.endswith("dense")]
    assert list(check_layers(module, pattern)) == expected


@pytest.mark.parametrize(
    ("layer", "error", "words"),
    [
        ("frist", ValueError, r"got 'frist'\. Close names: 'first'"),
        ("encoder.*", ValueError, r"got 'encoder\.\*'\. Close names: "),
        ("first:x", ValueError, "got 'first:x'"),
        ([], ValueError, "got an empty list"),
        (3, TypeError, "got 3"),
        (["first", 3], TypeError, "got 3"),
    ],
    ids=str,
)
def test_unknown_layers_are_refused(layer, error, words):
    with pytest.raises(error, match=words):
        check_layers(mlp(), layer)


def test_a_module_without_submodules_has_no_layers():
    with pytest.raises(ValueError, match="it has no submodules"):
        check_layers(nn.Linear(1, 1), "a")


@pytest.mark.parametrize("layers", [("", "blocks.0"), ("blocks.1", "")], ids=str)
def test_the_output_is_heard_beside_layers(layers):
    heard = listen(Doubling(3), layers)
    values = {name: value.item() for name, value in heard.items()}
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


def test_a_model_that_catches_all_does_not_hide_what_was_heard():
    assert listen(Stubborn(), ("first",))["first"].item() == 2
    assert listen(Stubborn(), ("", "first"))[""].item() == 2


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


def test_another_error_made_of_our_stop_does_not_hide_what_was_heard():
    assert listen(Renaming(), ("first",))["first"].item() == 2
    with pytest.raises(ValueError, match="the first layer failed"):
        listen(nn.Sequential(Renaming(), Times(2)), ("1",), Inputs((None,)))
