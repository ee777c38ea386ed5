import pytest
import torch

from sklearn_torch_bridge._replica._operations import operation

ATEN = torch.ops.aten


def test_most_operations_are_plain():
    assert operation(ATEN.linear.default).is_plain
    assert operation(ATEN.relu.default).is_plain
    assert operation(ATEN.layer_norm.default).is_plain


@pytest.mark.parametrize(
    ("function", "args", "draws"),
    [
        (ATEN.dropout.default, (0.5, True), True),
        (ATEN.dropout.default, (0.5, False), False),
        (ATEN.dropout.default, (0.0, True), False),
        (ATEN.bernoulli_.float, (0.0,), True),
        (ATEN.rrelu.default, (0.1, 0.3, False), False),
        (ATEN.rrelu.default, (), False),  # as is the default
        (ATEN.scaled_dot_product_attention.default, (torch.ones(2),) * 2, False),
        (ATEN._scaled_dot_product_flash_attention_for_cpu.default, (), False),
        (ATEN.rand_like.default, (), True),
        (ATEN.add.Tensor, (1,), False),
    ],
    ids=str,
)
def test_what_draws_depends_on_the_arguments(function, args, draws):
    what = operation(function)
    assert what.draws(what.bind((torch.ones(2), *args), {})) is draws


def test_writes_are_in_the_schema_but_for_running_statistics():
    one, mean, var = torch.ones(2, 3), torch.ones(3), torch.ones(3)
    add = operation(ATEN.add_.Tensor)
    assert add.writes_to(add.bind((one, mean), {})) == [one]
    norm = operation(ATEN.batch_norm.default)
    rest = (0.1, 1e-5, True)
    in_training = norm.bind((one, None, None, mean, var, True, *rest), {})
    assert [id(tensor) for tensor in norm.writes_to(in_training)] == [id(mean), id(var)]
    in_eval = norm.bind((one, None, None, mean, var, False, *rest), {})
    assert norm.writes_to(in_eval) == []


def test_what_is_no_overload_is_let_through():
    assert operation(torch.ops.higher_order.cond).is_plain
