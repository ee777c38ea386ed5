"""Names, globs and numbered calls stand for layers; unknown names are refused."""

import pytest
from torch import nn

from sklearn_torch_bridge._replica import check_layers, literal_names
from tests.tiny_models import mlp


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


def test_names_are_known_without_the_model_unless_one_is_a_glob():
    assert literal_names(None) == ()
    assert literal_names(["a", "b:1", "a"]) == ("a", "b:1")
    assert literal_names(["a", "b[01]"]) == ()
    assert literal_names(["a", 3]) == ()
