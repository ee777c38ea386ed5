import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import ForwardError, TorchFeatureExtractor, layer_table
from tests.tiny_models import Pair, Returning, Tokens, mlp

X = np.ones((5, 4), np.float32)


@pytest.mark.parametrize("given", [None, X], ids=["no rows", "rows"])
def test_every_layer_is_there_in_the_order_of_the_model(given):
    module = nn.Sequential(mlp(), nn.Sigmoid())
    table = layer_table(module, given)
    expected = [name for name, _ in module.named_modules()]
    assert [layer.name for layer in table] == expected
    assert len(table) == len(expected)
    assert table.names == expected[1:]
    assert table["0.first"].class_name == "Linear"
    assert table["0.first"].n_parameters == 4 * 8 + 8
    assert table[""].n_parameters == sum(p.numel() for p in module.parameters())


def test_without_rows_nothing_is_told_of_outputs():
    table = layer_table(mlp())
    assert {(layer.shape, layer.output, layer.time_share) for layer in table} == {
        (None, "", None)
    }
    assert table.n_rows is None


def test_rows_tell_shapes_and_when_each_layer_ends():
    table = layer_table(TorchFeatureExtractor(mlp()), X)
    shapes = {layer.name: layer.shape for layer in table}
    assert shapes == {"": (5, 3), "first": (5, 8), "act": (5, 8), "second": (5, 3)}
    assert table["first"].output == "(n, 8)"
    shares = [table[name].time_share for name in ("first", "act", "second", "")]
    assert 0 < shares[0] <= shares[1] <= shares[2] <= shares[3] == 1


def test_a_few_rows_are_enough():
    assert layer_table(mlp(), np.ones((100, 4), np.float32)).n_rows == 32


def test_a_layer_that_did_not_run_says_so():
    module = mlp()
    module.spare = nn.Linear(2, 2)
    module.forward = module.first.forward
    table = layer_table(module, X)
    assert table["spare"].time_share is None
    assert table["spare"].shape is None
    line = next(line for line in repr(table).splitlines() if line.startswith("spare"))
    assert line.split() == ["spare", "Linear", "did", "not", "run", "6"]


@pytest.mark.parametrize(
    ("make", "shape", "output"),
    [
        (lambda x: x[:, 0], (5,), "(n,)"),
        (lambda x: x[0], (4,), "(4,)"),
        (lambda x: Pair(x, x[:, :1]), None, "left: (n, 4), right: (n, 1)"),
        (lambda x: {"last_hidden_state": x, "b": x[0]}, (5, 4), "(n, 4)"),
        (lambda x: {"a": x, "b": x[0], "size": 3}, None, "a: (n, 4), b: (4,)"),
        (lambda x: "nothing", None, "str"),
    ],
    ids=["numbers", "other rows", "pair", "the field meant", "fields", "no tensor"],
)
def test_outputs_of_any_kind_are_described(make, shape, output):
    table = layer_table(nn.Sequential(Returning(make)), X)
    assert table["0"].shape == shape
    assert table["0"].output == output


def test_the_longest_texts_are_run(tokenizer):
    extractor = TorchFeatureExtractor(Tokens(), preprocess=tokenizer)
    texts = ["no", "one two three", "two words"]
    assert layer_table(extractor, texts)["words"].shape == (3, 5, 8)


def test_only_rows_of_one_length_are_run_where_no_mask_is_taken():
    rows = [np.ones((size, 2), np.float32) for size in (1, 3, 2, 3)]
    table = layer_table(nn.Sequential(nn.Linear(2, 4)), rows)
    assert table["0"].shape == (2, 3, 4)


def test_rows_that_are_all_unfit_are_an_error():
    extractor = TorchFeatureExtractor(mlp(), on_error="nan")
    with pytest.raises(ValueError, match="must hold a row that can be used, got none"):
        layer_table(extractor, np.full((2, 4), np.nan, np.float32))


def test_it_shows_as_a_table_in_text_and_in_a_notebook():
    class Less(nn.Linear):
        pass

    Less.__name__ = "Less<More>"
    table = layer_table(nn.Sequential(Less(4, 250)), X)
    head, whole, layer = (line.split() for line in repr(table).splitlines())
    assert head == ["layer", "class", "output", "parameters", "time"]
    assert whole[:2] == ["(model)", "Sequential"]
    assert layer[:-1] == ["0", "Less<More>", "(n,", "250)", "1,250"]
    assert layer[-1].endswith("%")
    html = table._repr_html_()
    assert html.startswith("<table><tr><th>layer</th><th>class</th>")
    assert "<td>Less&lt;More&gt;</td>" in html
    assert html.count("<tr>") == html.count("</tr>") == 3


def test_the_model_is_left_as_it_was():
    module = mlp().train()
    layer_table(module, X)
    assert module.training
    assert not any(part._forward_hooks for part in module.modules())


def test_the_forward_runs_without_gradients():
    seen = set()

    def look(x):
        seen.add(torch.is_grad_enabled())
        return x

    layer_table(nn.Sequential(Returning(look)), X)
    assert seen == {False}


def test_a_row_that_cannot_be_prepared_has_its_number_in_x():
    def preprocess(rows):
        return torch.tensor([[float(row)] for row in rows])

    extractor = TorchFeatureExtractor(nn.Identity(), preprocess=preprocess)
    with pytest.raises(ForwardError, match="`preprocess` failed on row 2: ValueError"):
        layer_table(extractor, ["1", "1", "x"])  # equal texts run once
