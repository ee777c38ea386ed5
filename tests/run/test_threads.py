"""Threads share extractors, modules and caches: each gets what it would get alone."""

import sys
import threading

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor
from sklearn_torch_bridge._digest import digest
from sklearn_torch_bridge._replica._module_copy import copy_module
from sklearn_torch_bridge._run._threads import Threads
from tests.tiny_models import Counting, Doubling, Stateful, Tokens, mlp

N_THREADS = 8


@pytest.fixture(autouse=True)
def _many_switches():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def in_threads(work):
    """Let eight threads begin together; raise what one of them has raised."""
    failures = []
    begin = threading.Barrier(N_THREADS)

    def guarded(number):
        begin.wait(60)
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


class Lent(nn.Module):
    """Cannot be copied: threads take turns."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        inner = self.inner

        def run(x):
            return inner(x)

        self.run = run

    def forward(self, x):
        return self.run(x)


def script():
    return torch.jit.script(mlp())


@pytest.mark.parametrize(
    ("build", "width"), [(mlp, 4), (Stateful, 3), (Lent, 4), (script, 4)]
)
@pytest.mark.parametrize("has_cache", [False, True], ids=["", "cache"])
@pytest.mark.filterwarnings(
    # torch.jit is deprecated, and its users are still ours.
    "ignore:.*torch.jit.*:DeprecationWarning"
)
def test_one_extractor_serves_eight_threads(tmp_path, rng, build, width, has_cache):
    module = build()
    extractor = TorchFeatureExtractor(module, batch_size=5, cache_key="threads")
    X = rng.normal(size=(N_THREADS, 21, width)).astype(np.float32)
    expected = [extractor.transform(rows) for rows in X]
    modes = [part.training for part in module.modules()]
    if has_cache:
        extractor.set_params(cache=EmbeddingCache(tmp_path / "a.db"))

    def work(number):
        for turn in range(12):
            which = (number + turn) % N_THREADS
            Z = extractor.transform(X[which])
            np.testing.assert_allclose(Z, expected[which], rtol=1e-5, atol=1e-6)

    torch.manual_seed(3)
    before = torch.get_rng_state()
    in_threads(work)
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.training for part in module.modules()] == modes
    if has_cache:
        assert len(extractor.cache) == N_THREADS * 21


def test_one_extractor_of_texts_serves_eight_threads(tokenizer, texts):
    extractor = TorchFeatureExtractor(Tokens(), preprocess=tokenizer, batch_size=3)
    expected = extractor.transform(texts)

    def work(number):
        for _ in range(10):
            order = np.roll(np.arange(len(texts)), number)
            Z = extractor.transform([texts[row] for row in order])
            np.testing.assert_allclose(Z, expected[order], rtol=1e-5, atol=1e-6)

    in_threads(work)


def test_clones_of_one_module_read_their_own_layers(tmp_path):
    """Each by the cache of all, and without."""
    module = Doubling(N_THREADS)
    X = np.arange(60.0, dtype=np.float32).reshape(20, 3)
    whole = TorchFeatureExtractor(module, batch_size=3, cache=tmp_path / "a.db")

    def work(number):
        extractor = clone(whole).set_params(layer=f"blocks.{number}")
        assert extractor.model is module
        expected = X * 2 ** (number + 1)
        for turn in range(15):
            extractor.set_params(cache=whole.cache if turn % 2 else None)
            np.testing.assert_array_equal(extractor.transform(X), expected)

    in_threads(work)
    assert len(EmbeddingCache(tmp_path / "a.db")) == N_THREADS * 20


def test_what_threads_learn_at_once_is_the_same(rng):
    """A fit for each of eight clones, whose module was never seen before."""
    X = rng.normal(size=(20, 4)).astype(np.float32)
    module = Counting(mlp())
    extractor = TorchFeatureExtractor(module, layer="inner.act")
    found = [None] * N_THREADS

    def work(number):
        found[number] = clone(extractor).fit_transform(X)

    in_threads(work)
    for Z in found:
        np.testing.assert_array_equal(Z, found[0])


def test_tasks_give_results_and_errors_and_leave_no_thread(monkeypatch):
    joined, join = set(), threading.Thread.join
    # One that nobody waits for would be gone by now as well, by chance.
    monkeypatch.setattr(
        threading.Thread, "join", lambda one: (join(one), joined.add(one))
    )
    threads = Threads(3)
    halves = [threads.begin(divmod, number, 2) for number in range(20)]
    failing = threads.begin(divmod, 1, 0)
    assert [half() for half in halves] == [divmod(number, 2) for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        failing()
    threads.end()
    threads.end()
    begun = {one._thread for one in threads._threads if one._thread.ident is not None}
    assert joined == begun != set()
    assert not [one for one in threading.enumerate() if "_work" in one.name]


def test_the_end_drops_what_nobody_has_begun(monkeypatch):
    begun, held, done = threading.Event(), threading.Event(), []
    threads = Threads(1)
    threads.begin(lambda: (begun.set(), held.wait(60)))
    begun.wait(60)
    for number in range(5):
        threads.begin(done.append, number)
    (only,) = threads._threads
    wait = only.wait
    monkeypatch.setattr(only, "wait", lambda: (held.set(), wait()))
    threads.end()
    assert held.is_set()
    assert done == []


def test_a_machine_without_a_thread_to_spare_is_an_error(monkeypatch):
    def refuse(_):
        msg = "can't start new thread"
        raise RuntimeError(msg)

    extractor = TorchFeatureExtractor(mlp(), device=["cpu", "cpu"], batch_size=2)
    X = np.ones((9, 4), np.float32)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for options in ({}, {"device": "cpu", "num_workers": 2}):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            extractor.set_params(**options).transform(X)
    monkeypatch.undo()
    assert extractor.transform(X).shape[0] == 9


def test_what_a_thread_adds_to_a_module_meanwhile_is_no_error():
    """Neither to the copying of the module nor to its fingerprint."""
    module = mlp()
    module.seen, module.sizes = set(range(20)), dict.fromkeys(range(20))
    done = threading.Event()

    def change():
        number = 100
        while not done.is_set():
            module.seen.add(number)
            module.sizes[number] = module.last = number
            module.seen.discard(number)
            del module.sizes[number], module.last

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(1_000):
            copy_module(module, torch.Tensor.detach)
            digest(module)
    finally:
        done.set()
        changing.join()
