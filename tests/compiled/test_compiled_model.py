"""Compiled code does what the model does, and is made a bounded number of times.

Each compilation takes seconds, so tests share what they compile where they can.
"""

import gc
import threading
import warnings
import weakref
from collections import OrderedDict

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_torch_bridge import BadRowWarning, ForwardError, TorchFeatureExtractor
from sklearn_torch_bridge._compiled import _compiled_model
from sklearn_torch_bridge._compiled._compiled_model import compiled
from sklearn_torch_bridge._compiled._torch_compile import relative_error
from sklearn_torch_bridge._errors import LayerNotRunError, NotCompiledError
from sklearn_torch_bridge._replica._make_replica import replica
from sklearn_torch_bridge._types import Inputs
from tests.tiny_models import Failing, Stateful, Tokens, cnn, mlp

pytestmark = pytest.mark.skipif(
    torch.__version__ < (2, 13), reason="compile=True needs torch 2.13"
)


class Reports(list):
    """Collects what is reported, and counts what was compiled."""

    def __call__(self, line):
        self.append(line)

    @property
    def compiled(self):
        return sum(line.startswith("Compiling") for line in self)


def run(module, *batches, layers=(), ragged=False, report=str, usual_rows=8):
    """Return what is recorded of each batch."""
    recorded = []
    with replica(module, "cpu") as (own, place, _), torch.inference_mode():
        call = compiled(
            module,
            own,
            layers,
            lambda layer, value: recorded[-1].update({layer: value}),
            device=place,
            usual_rows=usual_rows,
            ragged=ragged,
            report=report,
        )
        for inputs in batches:
            recorded.append({})
            call(inputs)
    return recorded


def rows(n, width=4):
    generator = torch.Generator().manual_seed(n)
    return Inputs((torch.randn(n, width, generator=generator),))


def tokens(n_rows, n_tokens):
    ids = torch.arange(n_rows * n_tokens).reshape(n_rows, n_tokens)
    return Inputs(kwargs={"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def assert_close(found, model, inputs):
    with torch.no_grad():
        expected = model(*inputs.args, **inputs.kwargs)
    assert relative_error(found, expected) <= 1e-5


def test_one_graph_serves_batches_of_every_size_and_later_calls():
    model, reports = mlp(), Reports()
    batches = [rows(n) for n in (5, 2, 8, 33)]
    for _ in range(2):
        recorded = run(model, *batches, report=reports)
        for one, inputs in zip(recorded, batches, strict=True):
            assert_close(one[""], model, inputs)
    assert reports[0].startswith("Compiling")
    assert reports[1].startswith("Compiled in")
    assert len(reports) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.first.weight.data.view(-1)[0].add_(1),
        lambda model: setattr(model, "act", nn.Tanh()),
    ],
    ids=["a weight edited in place", "a layer replaced"],
)
def test_a_model_that_changed_is_compiled_anew(change):
    model, reports = mlp(), Reports()
    run(model, rows(3), report=reports)
    with torch.no_grad():
        change(model)
    (recorded,) = run(model, rows(3), report=reports)
    assert_close(recorded[""], model, rows(3))
    assert reports.compiled == 2
    assert "The model has changed since it was compiled." in reports


def test_texts_take_two_graphs_at_most():
    model, reports = Tokens().eval(), Reports()
    shapes = [(8, 8), (3, 5), (2, 2), (9, 40), (4, 1), (7, 1), (2, 8)]
    recorded = run(
        model, *(tokens(*shape) for shape in shapes), ragged=True, report=reports
    )
    for one, shape in zip(recorded, shapes, strict=True):
        assert_close(one[""], model, tokens(*shape))
    assert reports.compiled == 2


def test_layers_are_recorded_as_they_were_and_the_rest_is_not_run():
    model = cnn().eval()
    images = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    untouched = images.clone()
    model.append(nn.Flatten()).append(nn.Linear(3, 3))  # the wrong width: it would fail
    (recorded,) = run(model, Inputs((images,)), layers=("0", "2"))
    assert_close(recorded["0"], model[0], Inputs((images,)))  # "1" works in place
    assert_close(recorded["2"], model[:3], Inputs((images,)))
    assert torch.equal(images, untouched)


def test_the_output_is_recorded_beside_a_layer():
    model = mlp().eval()
    (recorded,) = run(model, rows(8), layers=("first", ""))
    assert_close(recorded["first"], model.first, rows(8))
    assert_close(recorded[""], model, rows(8))


def test_a_layer_that_does_not_run_is_named_before_anything_is_compiled():
    model, reports = nn.Sequential(mlp()), Reports()
    model[0].forward = model[0].first.forward
    with pytest.raises(LayerNotRunError, match=r"'0.second' did not run"):
        run(model, rows(2), layers=("0.second",), report=reports)
    assert reports == []


class Writing(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen += len(x)
        return x * 2 + self.seen


def test_every_batch_finds_the_buffers_as_they_were():
    model = Writing()
    recorded = run(model, rows(3), rows(3), rows(2))
    for one, n in zip(recorded, (3, 3, 2), strict=True):
        assert relative_error(one[""], rows(n).args[0] * 2 + n) <= 1e-5
    assert model.seen.item() == 0


def test_autocast_is_part_of_the_code():
    model, reports = mlp(), Reports()
    expected = model(*rows(8).args).detach()
    with torch.autocast("cpu", torch.bfloat16):
        (recorded,) = run(model, rows(8), report=reports)
    assert recorded[""].dtype is torch.bfloat16
    assert 0 < relative_error(recorded[""], expected) < 2e-2
    (recorded,) = run(model, rows(8), report=reports)
    assert_close(recorded[""], model, rows(8))
    assert reports.compiled == 2


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of scripting
        return torch.jit.script(nn.Linear(3, 3))


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (Stateful().eval(), "had to be compiled again and again"),
        (Failing(9), "PyTorch cannot compile it"),
        (torch.compile(mlp(), backend="eager"), "is scripted or compiled already"),
        (nn.Sequential(scripted(), nn.ReLU()), "is scripted or compiled already"),
    ],
    ids=["changes itself", "looks at values", "is compiled already", "is scripted"],
)
def test_a_model_that_cannot_be_compiled_is_an_error_that_says_what_to_do(model, match):
    with pytest.raises(NotCompiledError, match=rf"`compile` must be False.*{match}"):
        run(model, rows(8, width=3))


def test_a_batch_that_the_model_cannot_take_is_no_fault_of_the_code():
    model, reports = mlp().eval(), Reports()
    first, _ = run(model, rows(8), rows(9), report=reports)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(model, rows(8, width=7), report=reports)
    (again,) = run(model, rows(8), report=reports)
    assert torch.equal(first[""], again[""])
    assert reports.compiled == 1
    extractor = TorchFeatureExtractor(model, compile=True, on_error="nan")
    with pytest.warns(BadRowWarning, match="row 1 of"):
        Z = extractor.transform([np.ones(4), np.ones(5), np.ones(4)])
    assert np.isnan(Z).any(1).tolist() == [False, True, False]


def test_code_that_computes_something_else_is_refused(monkeypatch):
    monkeypatch.setattr(
        _compiled_model._torch_private,
        "compile_graph",
        lambda graph, _: (lambda *a: _shifted(graph(*a)), []),
    )
    with pytest.raises(NotCompiledError, match="gives values that differ by"):
        run(mlp(), rows(8))


def _shifted(results):
    return [one * 1.01 for one in results]


def test_too_many_graphs_are_an_error_and_not_slowness(monkeypatch):
    monkeypatch.setattr(_compiled_model, "_MOST_GRAPHS", 1)
    with pytest.raises(NotCompiledError, match="had to be compiled again and again"):
        run(Tokens(50).eval(), tokens(2, 5), tokens(2, 1), ragged=True)


def test_no_compiler_is_an_error_that_says_what_to_install(monkeypatch):
    from torch._inductor.exc import InvalidCxxCompiler

    def fail(*_):
        raise InvalidCxxCompiler

    monkeypatch.setattr(_compiled_model._torch_private, "compile_graph", fail)
    with pytest.raises(NotCompiledError, match=r"needs a C\+\+ compiler.*CXX"):
        run(mlp(), rows(8))


def test_threads_share_the_code():
    model, reports = mlp(), Reports()
    results = [None] * 4

    def work(place):
        results[place] = run(model, rows(3 + place), report=reports)[0][""]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, result in enumerate(results):
        assert_close(result, model, rows(3 + place))
    assert reports.compiled == 1


def test_code_ends_with_its_model():
    model = mlp()
    run(model, rows(8))
    kept = _compiled_model._KEPT.items()
    (own,) = (entry._own for (ref, *_), entry in kept if ref() is model)
    refs = [weakref.ref(part) for part in (model, own, own.first.weight)]
    from torch._inductor.codecache import PyCodeCache

    loaded = len(PyCodeCache.modules)
    del own, model
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None]
    assert len(PyCodeCache.modules) < loaded


def test_only_the_last_few_are_kept(monkeypatch):
    kept = OrderedDict()
    monkeypatch.setattr(_compiled_model, "_KEPT", kept)
    monkeypatch.setattr(_compiled_model, "_MOST_MODELS", 2)
    models = [mlp(seed=seed) for seed in range(3)]
    for model in models:
        with replica(model, "cpu") as (own, place, _):
            options = {"device": place, "usual_rows": 8, "ragged": False}
            compiled(model, own, ("",), print, report=str, **options)
    assert [ref() for ref, *_ in kept] == models[1:]


# In the extractor ---------------------------------------------------------------------


def test_an_extractor_runs_compiled_code_in_batches_of_any_size(rng, capfd):
    module = mlp()
    X = rng.normal(size=(33, 4)).astype(np.float32)
    plain = TorchFeatureExtractor(module, layer=["act", "first"])
    extractor = clone(plain).set_params(compile=True, batch_size=8, verbose=1)
    for rows in (X, X[:1], X[5:9]):  # the last batch of the first has one row
        np.testing.assert_allclose(
            extractor.transform(rows), plain.transform(rows), rtol=1e-5, atol=1e-5
        )
    lines = [line for line in capfd.readouterr().err.splitlines() if "Compil" in line]
    assert len(lines) == 2
    assert "TorchFeatureExtractor: Compiling the model" in lines[0]


def test_a_model_that_cannot_be_compiled_is_an_error_of_the_extractor(rng):
    module = Failing(40)
    extractor = TorchFeatureExtractor(module, compile=True, on_error="nan")
    with pytest.raises(ForwardError, match="`compile` must be False for this model"):
        extractor.transform(rng.normal(size=(4, 2)))


def test_compiled_rows_are_kept_apart_in_a_cache(rng, cache):
    X = rng.normal(size=(8, 4)).astype(np.float32)
    extractor = TorchFeatureExtractor(mlp(), cache=cache)
    extractor.transform(X)
    extractor.set_params(compile=True).transform(X)
    assert len(cache) == 16
