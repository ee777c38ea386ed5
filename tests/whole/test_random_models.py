"""Models that draw: a vector is of its row, and global generators are left alone."""

import random
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sklearn_torch_bridge import TorchFeatureExtractor


class Drawing(nn.Module):
    """Changes what a linear layer returns."""

    def __init__(self, draw):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.draw = draw
        torch.manual_seed(3)
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, x):
        return self.draw(self, self.first(x))


def attend(_, x):
    x = x[:, None]
    return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)[:, 0]


def gamma(_, x):
    return x + torch.distributions.Gamma(torch.ones(x.shape), 1.0).sample()


DRAWS = {
    "dropout": lambda _, x: functional.dropout(x, 0.5, True),
    "dropout in place": lambda _, x: functional.dropout(x.clone(), 0.5, True, True),
    "alpha_dropout": lambda _, x: functional.alpha_dropout(x, 0.5, True),
    "dropout1d": lambda _, x: functional.dropout1d(x[..., None], 0.5, True)[..., 0],
    "rrelu": lambda _, x: functional.rrelu(x, training=True),
    "gumbel_softmax": lambda _, x: functional.gumbel_softmax(x),
    "attention": attend,
    "rand": lambda _, x: x + torch.rand(x.shape),
    "rand of a column": lambda _, x: x + torch.rand(4),
    "rand into": lambda _, x: x + torch.rand(4, out=torch.empty(4)),
    "like": lambda _, x: x + torch.rand_like(x) + torch.randn_like(x),
    "randint": lambda _, x: x + torch.randint(0, 9, (4,)),
    "randperm": lambda _, x: x[:, torch.randperm(4)],
    "bernoulli": lambda _, x: x * torch.bernoulli(torch.full_like(x, 0.5)),
    "multinomial": lambda _, x: x + torch.multinomial(torch.ones(len(x), 9), 4),
    "normal_": lambda _, x: x + x.clone().normal_(),
    "distribution": gamma,
    "a number": lambda _, x: x * torch.rand([]),
    "own generator": lambda m, x: x + torch.rand(x.shape, generator=m.generator),
}
DRAWS_NOTHING = {
    "nothing": lambda _, x: x,
    "no dropout": lambda _, x: functional.dropout(x, 0.5, False),
    "dropout of none": lambda _, x: functional.dropout(x, 0.0, True),
    "a number for nothing": lambda _, x: (torch.rand([]), x)[1],
}


def generators():
    return (
        torch.get_rng_state().tolist(),
        str(np.random.get_state()),  # noqa: NPY002 - which a model may draw from
        random.getstate(),
    )


@pytest.fixture
def X(rng):
    rows = rng.normal(size=(20, 4)).astype("float32")
    rows[7] = rows[3]
    return rows


@pytest.mark.parametrize("name", DRAWS)
def test_a_vector_is_a_function_of_its_row(name, X, tmp_path):
    model = Drawing(DRAWS[name])
    before, own = generators(), model.generator.get_state()
    Z = TorchFeatureExtractor(model).fit(X).transform(X)
    small = TorchFeatureExtractor(model, batch_size=3)
    backwards = small.transform(X[::-1])[::-1]
    cached = TorchFeatureExtractor(
        model, cache=tmp_path / "c.db", cache_key="1", num_workers=2
    )
    np.testing.assert_allclose(backwards, Z, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cached.transform(X[5:]), Z[5:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cached.transform(X), Z, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(Z[7], Z[3], rtol=1e-5, atol=1e-6)
    assert generators() == before
    assert torch.equal(model.generator.get_state(), own)


@pytest.mark.parametrize("name", DRAWS)
def test_what_is_drawn_is_random(name, X):
    model = Drawing(DRAWS[name])
    with torch.no_grad():
        plain = model.first(torch.from_numpy(X)).numpy()
    assert not np.allclose(TorchFeatureExtractor(model).transform(X), plain)


@pytest.mark.parametrize("name", DRAWS_NOTHING)
def test_what_needs_no_draws_runs_in_batches(name, X):
    model = Drawing(DRAWS_NOTHING[name])
    sizes = []
    model.first.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    before = generators()
    Z = TorchFeatureExtractor(model, batch_size=10).transform(X)
    assert sizes == [10, 10]
    assert generators() == before
    with torch.no_grad():
        plain = model.first(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(Z, plain, rtol=1e-5, atol=1e-6)


def test_a_layer_before_the_draws_runs_in_batches(X):
    model = Drawing(DRAWS["dropout"])
    sizes = []
    model.first.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    TorchFeatureExtractor(model).transform(X)
    del sizes[:]
    TorchFeatureExtractor(model, layer="first").transform(X)
    assert sizes == [20]


class Sometimes(nn.Module):
    """Draws for rows above 1 only."""

    def forward(self, x):
        return x + torch.randn(x.shape) if bool((x > 1).any()) else x


def test_a_draw_that_comes_late_is_seen():
    X = np.array([[0.0] * 4, [0.5] * 4, [2.0] * 4, [0.0] * 4], np.float32)
    extractor = TorchFeatureExtractor(Sometimes(), batch_size=1)
    first = extractor.transform(X)
    assert np.array_equal(extractor.transform(X), first)
    assert np.array_equal(extractor.transform(X[2:3]), first[2:3])
    assert np.array_equal(first[[0, 1, 3]], X[[0, 1, 3]])


def test_other_threads_draw_what_their_seed_says(X):
    """The state of a generator that all share was put back at the end of each run."""
    drawing = TorchFeatureExtractor(Drawing(DRAWS["dropout"]))
    quiet = TorchFeatureExtractor(nn.Sequential(nn.Linear(4, 4), nn.Dropout()))
    expected = [drawing.transform(X), quiet.transform(X)]
    torch.manual_seed(0)
    weights = nn.Linear(3, 3).weight
    drawn = torch.rand(3)
    wrong, ended = [], threading.Event()

    def run():
        while not ended.is_set():
            found = [drawing.transform(X), quiet.transform(X)]
            if not all(map(np.array_equal, found, expected)):
                wrong.append(found)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(300):
            torch.manual_seed(0)
            assert torch.equal(nn.Linear(3, 3).weight, weights)
            assert torch.equal(torch.rand(3), drawn)
    finally:
        ended.set()
        thread.join()
    assert not wrong


FOREIGN = {
    "NumPy": (
        lambda _, x: x * np.random.rand(),  # noqa: NPY002 - what models do
        "NumPy's global generator",
    ),
    "Python": (
        lambda _, x: x * random.random(),  # noqa: S311 - no cryptography
        "Python's `random`",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_draws_from_elsewhere_are_an_error_with_a_cache(name, X, tmp_path):
    draw, where = FOREIGN[name]
    model = Drawing(draw)
    with pytest.warns(UserWarning, match=f"draws random numbers from {where}"):
        TorchFeatureExtractor(model).transform(X)
    TorchFeatureExtractor(model).transform(X)  # one warning is enough
    cached = TorchFeatureExtractor(
        model, cache=tmp_path / "c.db", cache_key="1", on_error="nan"
    )
    with pytest.raises(ValueError, match=f"from {where} .* `cache` must be None"):
        cached.transform(X)


def test_a_model_that_seeds_the_generator_leaves_it_as_it_was(X):
    def draw(_, x):
        torch.manual_seed(0)
        return x + torch.rand(x.shape)

    model = Drawing(draw)
    torch.manual_seed(77)
    before = generators()
    extractor = TorchFeatureExtractor(model).fit(X)
    first = extractor.transform(X)
    assert generators() == before
    assert np.array_equal(extractor.transform(X[::-1])[::-1], first)
    assert generators() == before


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand(x.shape)


def test_a_model_that_draws_is_not_compiled(X):
    extractor = TorchFeatureExtractor(Noisy(), compile=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(RuntimeError, match="its forward draws random numbers"):
            extractor.transform(X)


class Slow(nn.Module):
    """Takes a while, and draws nothing of its own."""

    def forward(self, x):
        for _ in range(20):
            torch.ones(200, 200) @ torch.ones(200, 200)
        return x * 2


DRAWS_OF_OTHERS = {
    "torch": lambda: tuple(torch.rand(3).tolist()),
    "NumPy": lambda: tuple(np.random.rand(3).tolist()),  # noqa: NPY002 - the global one
    "Python": lambda: tuple(random.sample(range(10**9), 3)),
}


@pytest.mark.parametrize("draw", DRAWS_OF_OTHERS)
@pytest.mark.parametrize("model", [Slow, Noisy])
def test_what_other_threads_draw_is_theirs(model, draw, tmp_path):
    """They draw all the time: a model is not blamed for it, and nothing comes again."""
    extractor = TorchFeatureExtractor(model(), batch_size=4, cache=tmp_path / "e.db")
    X = np.arange(96.0, dtype=np.float32).reshape(24, 4)
    done = threading.Event()
    failed = []

    def work():
        try:
            for start in range(3):
                extractor.transform(X + 100 * start)
        except Exception as error:  # noqa: BLE001 - raised by the test
            failed.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=work)
    thread.start()
    drawn = []
    while not done.is_set():
        drawn.append(DRAWS_OF_OTHERS[draw]())
    thread.join()
    assert failed == []
    assert len(set(drawn)) == len(drawn) > 10


def test_draws_of_numpy_set_no_generator_of_torch_back():
    class Numbers(nn.Module):
        def forward(self, x):
            return x * float(np.random.rand())  # noqa: NPY002 - the global one

    def elsewhere(*_):
        thread = threading.Thread(target=torch.rand, args=(3,))
        thread.start()
        thread.join()

    extractor = TorchFeatureExtractor(Numbers())
    X = np.ones((3, 4), np.float32)
    with pytest.warns(UserWarning, match="NumPy's global generator"):
        extractor.transform(X)
    extractor.model.register_forward_hook(elsewhere)
    before = torch.get_rng_state()
    extractor.transform(X)
    assert not torch.get_rng_state().equal(before)
