import pytest
import torch

from sklearn_torch_bridge._replica._operations import operation
from sklearn_torch_bridge._replica._redirected_draws import (
    Generators,
    drawn_shape,
    redirected,
)

ATEN = torch.ops.aten
ONES = torch.ones(2, 3)

DRAWS = {
    "rand": (ATEN.rand.default, ([2, 3],), {}),
    "rand into": (ATEN.rand.out, ([2, 3],), {"out": torch.empty(2, 3)}),
    "randn": (ATEN.randn.default, ([2, 3],), {"dtype": torch.float64}),
    "randint": (ATEN.randint.low, (1, 9, [2, 3]), {}),
    "randperm": (ATEN.randperm.default, (30,), {}),
    "rand_like": (ATEN.rand_like.default, (ONES,), {}),
    "randint_like": (ATEN.randint_like.low_dtype, (ONES, 1, 9), {}),
    "bernoulli": (ATEN.bernoulli.default, (ONES / 2,), {}),
    "multinomial": (ATEN.multinomial.default, (ONES, 2), {}),
    "normal_": (ATEN.normal_.default, (torch.empty(2, 3),), {}),
    "rrelu": (ATEN.rrelu.default, (-ONES, 0.1, 0.3, True), {}),
    "native_dropout": (ATEN.native_dropout.default, (torch.ones(40), 0.5, True), {}),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_follows_our_seed_and_leaves_the_global_generator(name):
    function, args, kwargs = DRAWS[name]
    what = operation(function)
    before = torch.get_rng_state()

    def draw(seed):
        given = what.bind(args, kwargs)
        found = redirected(function, what.seeded, given, Generators(seed))
        found = found[0] if isinstance(found, tuple) else found
        return found.clone()

    assert torch.equal(draw(1), draw(1))
    assert any(not torch.equal(draw(1), draw(seed)) for seed in range(2, 12))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_keeps_and_scales_a_share():
    function = ATEN.native_dropout.default
    given = operation(function).bind((torch.ones(10_000), 0.25, True), {})
    values, kept = redirected(function, None, given, Generators(0))
    assert kept.float().mean() == pytest.approx(0.75, abs=0.02)  # 4 deviations
    assert set(values.tolist()) == {0.0, torch.tensor(1 / 0.75).item()}


def test_what_takes_no_generator_is_not_redirected():
    given = {"query": ONES}
    found = redirected(ATEN._fused_sdp_choice.default, None, given, Generators(0))
    assert found is NotImplemented


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ({"size": []}, ()),
        ({"size": [2, 3], "device": None}, (2, 3)),
        ({"self": ONES}, (2, 3)),
        ({"n": 4}, None),
    ],
    ids=["one number", "size", "tensor", "unknown"],
)
def test_the_shape_of_a_draw_is_read_off_its_arguments(given, shape):
    assert drawn_shape(given) == shape
