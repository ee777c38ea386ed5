"""Faults of machines, each in a process of its own; run by test_faults_of_processes.

Called with the name of a function and its arguments, each of which asserts what must
hold.
"""

import faulthandler
import gc
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cache_processes import Signal, fork, join
from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor, precompute
from sklearn_torch_bridge._replica import _random_state
from tiny_models import Counting, mlp

NOBODY = 65534
MEGABYTES = 1 << 20


class Wide(nn.Module):
    """Makes rows of many columns, that each tell the row."""

    def __init__(self, width):
        super().__init__()
        self.width = width

    def forward(self, x):
        return x[:, :1].expand(-1, self.width) + 1


def column(n_rows):
    return np.arange(n_rows, dtype=np.float32)[:, None]


@contextmanager
def raising(kinds, words=""):
    try:
        yield
    except kinds as error:
        assert words in str(error), error  # noqa: PT017 - a script, without pytest
    else:
        raise AssertionError


def state_of(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


# Disks and permissions


def full_disk(folder):
    """On a disk of 6 MB, mounted at `folder`."""
    base = Path(folder)
    ballast = base / "ballast"
    ballast.write_bytes(bytes(3 * MEGABYTES))
    no_room_for_rows(base / "wide.npy", ballast)
    no_room_for_marks(base / "narrow.npy", ballast)
    no_room_for_weights(base / "saved", ballast)


def no_room_for_rows(path, ballast):
    """Told before the work, also at the second try; what is left takes no room."""
    counting = Counting(Wide(1000))
    extractor = TorchFeatureExtractor(counting, batch_size=5)
    for _ in range(2):
        with raising(OSError, "No space left"):
            extractor.transform_to_file(column(1000), path)
        assert not path.with_suffix(".npy.part").exists()
    assert counting.tally.rows == 10
    ballast.unlink()
    Z = extractor.transform_to_file(column(1000), path)
    assert (column(1000) + 1 == Z).all()
    del Z
    # A part with holes, as a copy may have: to write or read there takes the room.
    part = path.with_suffix(".npy.part")
    path.rename(part)
    content = part.read_bytes()
    part.write_bytes(content[:8000])
    os.truncate(part, len(content))
    progress = path.with_suffix(".npy.progress")
    whole = progress.read_bytes()
    ballast.write_bytes(bytes(3 * MEGABYTES))
    for marks in (whole, whole[:520] + bytes(8 * 999)):
        progress.write_bytes(marks)
        with raising(OSError, "No space left"):
            extractor.transform_to_file(column(1000), path)
    part.unlink()


def no_room_for_marks(path, ballast):
    """Rows of 4 bytes have marks of 8, which are mapped as well."""
    X = column(400_000)
    extractor = TorchFeatureExtractor(Wide(1), batch_size=5000)
    for _ in range(2):
        with raising(OSError, "No space left"):
            extractor.transform_to_file(X, path)
    ballast.unlink()
    assert (extractor.transform_to_file(X, path) == X + 1).all()
    path.unlink()
    path.with_suffix(".npy.progress").unlink()
    ballast.write_bytes(bytes(3 * MEGABYTES))


def no_room_for_weights(folder, ballast):
    """The extractor saved before stays, until there is room for the next."""

    def build(value=0):
        module = nn.Linear(500, 1000)  # 2 MB
        nn.init.constant_(module.weight, value)
        return module

    TorchFeatureExtractor(build(1)).save(folder)
    before = state_of(folder)
    for _ in range(2):
        with raising(OSError, "No space left"):
            TorchFeatureExtractor(build(2)).save(folder)
        assert state_of(folder) == before
    ballast.unlink()
    TorchFeatureExtractor(build(2)).save(folder)
    assert bool((TorchFeatureExtractor.load(folder, build).model.weight == 2).all())


def read_only(folder):
    """`PermissionError`, and all is as it was. Root, who may write, becomes nobody."""
    base = Path(folder)
    base.chmod(0o755)
    X = column(10)
    extractor = TorchFeatureExtractor(Wide(3), batch_size=5)
    extractor.transform_to_file(X, base / "Z.npy")
    saved = base / "saved"
    TorchFeatureExtractor(mlp()).save(saved)
    for path in (base, saved):
        path.chmod(0o555)
        for file in path.iterdir():
            if file.is_file():
                file.chmod(0o444)
    before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}

    def be_nobody():
        os.setuid(NOBODY)
        for name in ("Z.npy", "new.npy"):
            with raising(PermissionError):
                extractor.transform_to_file(X, base / name)
        for path in (saved, base / "new"):
            with raising(PermissionError):
                TorchFeatureExtractor(mlp(seed=1)).save(path)
        loaded = TorchFeatureExtractor.load(saved, mlp(seed=2))
        assert loaded.model.first.weight.equal(mlp().first.weight)

    join(fork(be_nobody))
    assert before == {
        path: path.read_bytes() for path in base.rglob("*") if path.is_file()
    }


# kill -9, fork


class Fatal(nn.Module):
    """Ends its process at a batch; a clock to the model, and no part of it."""

    def __init__(self):
        super().__init__()
        self.inner = mlp(n_in=1)

    def forward(self, x):
        left = int(os.environ["LEFT"]) - 1
        os.environ["LEFT"] = str(left)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(x)


def killed_with_a_cache(folder):
    """Batches that were finished are found, by `transform` and by `precompute`."""
    X = column(60)
    module = Fatal()
    os.environ["LEFT"] = "0"
    expected = TorchFeatureExtractor(module).transform(X)
    for name in ("transform", "precompute"):
        store = EmbeddingCache(Path(folder) / f"{name}.db")
        extractor = TorchFeatureExtractor(
            module, batch_size=6, cache=store, cache_key="fatal"
        )
        work = {"transform": extractor.transform, "precompute": fill_with(extractor)}
        for done, fatal in [(0, 1), (3, 4), (8, 6)]:
            os.environ["LEFT"] = str(fatal)
            pid = fork(work[name], X)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert status == -signal.SIGKILL, status
            assert len(store) == 6 * done, (name, len(store))
        os.environ["LEFT"] = "3"  # the last two batches, and no third
        assert np.allclose(extractor.transform(X), expected, rtol=1e-5, atol=1e-6)
        assert len(store) == 60


def fill_with(extractor):
    return lambda X: precompute(extractor, X)


def forked(folder):
    """Parent and child go on with one extractor, whose cache is open."""
    X = column(50)
    store = EmbeddingCache(Path(folder) / "a.db")
    extractor = TorchFeatureExtractor(mlp(n_in=1), batch_size=7, cache=store)
    expected = extractor.transform(X)

    def go_on(start):
        assert (extractor.transform(X) == expected).all()
        more = column(start + 20)[start:]
        first = extractor.transform(more)
        assert (extractor.transform(more) == first).all()

    opened, closed = Signal(), Signal()

    def go_on_after_parent():
        go_on(5000)
        opened.give()
        closed.wait()
        go_on(6000)

    pids = [fork(go_on, 100 * (number + 1)) for number in range(4)]
    pids.append(fork(go_on_after_parent))
    opened.wait()
    go_on(900)
    join(*pids[:4])
    # A child that had inherited the parent's opening would now lose its journal.
    store.close()
    with EmbeddingCache(store.path) as other:
        other.put_many([b"sixteen bytes: a"], np.ones((1, 2)))
    closed.give()
    join(pids[4])
    assert len(store) == 50 + 7 * 20 + 1


# Memory


def short_of_memory(folder):
    """The address space ends 400 MB above what is in use."""
    base = Path(folder)
    expected = column(64)[:, :1] * np.ones(4, np.float32)

    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.sizes = []

        def forward(self, x):
            large = x[:, :1].repeat(1, 2 * MEGABYTES)  # 8 MB a row
            return large[:, :4] + 0

    store = EmbeddingCache(base / "a.db")
    extractor = TorchFeatureExtractor(Greedy(), batch_size=64, cache=store)
    weights = nn.Linear(3000, 3000)
    weights.weight.data = weights.weight.data.T  # 36 MB, to be put in order
    small = TorchFeatureExtractor(mlp())
    small.save(base / "saved")
    TorchFeatureExtractor(Wide(2)).transform(column(2))  # imports all
    before = state_of(base / "saved")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (used + 400 * MEGABYTES, hard))
    # A batch that does not fit is halved.
    Z = extractor.transform(column(64))
    assert (expected == Z).all()
    assert len(store) == 64
    # A result that does not fit is an error, and nothing is left of it.
    huge = TorchFeatureExtractor(Wide(MEGABYTES), batch_size=1, dtype="float64")
    with raising(MemoryError):
        huge.transform(column(100))
    with raising((MemoryError, OSError)):
        huge.transform_to_file(column(100), base / "huge.npy")
    assert not list(base.glob("huge.npy.part"))
    # Weights that cannot be read leave what was saved before.
    ballast = []
    with suppress(MemoryError):
        while True:
            ballast.append(np.empty(4 * MEGABYTES, np.uint8))
    with raising((MemoryError, RuntimeError)):
        TorchFeatureExtractor(weights).save(base / "saved")
    assert state_of(base / "saved") == before
    del ballast
    assert (extractor.transform(column(70))[:64] == expected).all()


# Ctrl-C


class Capturing(nn.Module):
    """Cannot be copied, so that it is lent and put back."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(mlp(n_in=2), nn.Dropout(0.5))
        bound = self.inner

        def run(x):
            return bound(x) + torch.rand(1) * 0

        self.run = run

    def forward(self, x):
        return self.run(x)


class Work:
    """One way to use the package, that may be interrupted anywhere and begun anew."""

    def __init__(self, folder, what):
        self.folder, self.what, self.round = Path(folder), what, 0
        self.X = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
        self.module = Capturing() if what == "lent" else mlp(n_in=2)
        self.module.train()
        self.rows = 24
        options = {"cache_key": "k"} if what == "lent" else {}
        self.plain = TorchFeatureExtractor(self.module, batch_size=5, **options)
        self.expected = self.plain.transform(self.X)
        self.anew()

    def anew(self):
        """Begin in a place of its own."""
        self.round += 1
        self.place = self.folder / f"{self.what}{self.round}"
        self.place.mkdir()
        self.extractor = TorchFeatureExtractor(**self.plain.get_params(deep=False))
        if self.what in ("cached", "devices", "lent", "precomputed", "workers"):
            self.extractor.set_params(cache=EmbeddingCache(self.place / "a.db"))
        if self.what == "workers":
            self.extractor.set_params(num_workers=2)
        if self.what == "devices":
            self.extractor.set_params(device=["cpu", "cpu"])
        if self.what == "saved":
            self.extractor.save(self.place / "saved")
            self.extractor.set_params(batch_size=6)

    def run(self):
        """Do it."""
        if self.what == "file":
            Z = self.extractor.transform_to_file(self.X, self.place / "Z.npy")
        elif self.what == "saved":
            self.extractor.save(self.place / "saved")
            return
        elif self.what == "precomputed":
            precompute(self.extractor, self.X)
            return
        else:
            Z = self.extractor.transform(self.X)
        assert np.allclose(Z, self.expected, rtol=1e-5, atol=1e-6)

    def check(self):
        """See that nothing is lost or left over, and that it can be done anew."""
        settled()  # threads that were about to begin end at their first batch
        assert all(part.training for part in self.module.modules())
        assert not any(part._forward_hooks for part in self.module.modules())
        assert not any(_random_state._N_RUNS.values()), _random_state._N_RUNS
        if self.what == "saved":
            loaded = TorchFeatureExtractor.load(self.place / "saved", mlp(n_in=2))
            assert loaded.batch_size in (5, 6)
            assert np.allclose(loaded.transform(self.X), self.expected, atol=1e-6)
        if self.what == "file":
            path = self.place / "Z.npy"
            if path.exists():
                assert np.allclose(np.load(path), self.expected, atol=1e-6)
        if self.extractor.cache is not None:
            stored = len(self.extractor.cache)
            whole = self.what == "lent" or stored % 5 in (0, 4)  # it draws: row by row
            assert stored == self.rows or whole, stored
        self.run()
        if self.what == "saved":
            names = sorted(path.name for path in (self.place / "saved").iterdir())
            assert names == ["config.json", "model.safetensors"]
        if self.extractor.cache is not None:
            assert len(self.extractor.cache) == self.rows
            again = self.extractor.transform(self.X)
            assert np.allclose(again, self.expected, rtol=1e-5, atol=1e-6)
            self.extractor.cache.close()


def descriptors():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count, and quick


def settled():
    """Wait for threads that were told to end.

    One whose beginning was interrupted, `threading` lists as long as the process lives.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.ident is not None:
            thread.join(10)
            assert not thread.is_alive(), thread


def interrupted_at_calls(folder, what, step):
    """A signal at every `step`-th call of ours."""
    # It is ignored by what a shell has started in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work = Work(folder, what)
    work.run()
    settled()
    files = descriptors()
    call = 0
    while strike(work, call, is_call_of_ours):
        work.check()
        work.anew()
        call += int(step)
    settled()
    gc.collect()  # what an interrupt has left in a cycle
    assert call > 40, call
    assert descriptors() <= files + 8, (descriptors(), files)


def interrupted_around_threads(folder, what):
    """A signal at every step of the main thread that starts a thread or waits for one.

    Python heeds one where a function begins, where one written in C has returned, and
    inside those that wait.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work = Work(folder, what)
    work.run()
    work.anew()
    came, step = True, 0
    while came:
        with never_stuck():
            came = strike(work, step, is_step_around_threads)
            work.check()
        assert threading.active_count() == 1, threading.enumerate()
        work.anew()
        step += 1
    assert step > 50, step


@contextmanager
def never_stuck():
    """End a process that makes no headway, and show where each thread waits."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def is_call_of_ours(code, event, _):
    """With `train` of torch, which sets the mode of one part after the other."""
    inside = "sklearn_torch_bridge" in code.co_filename or code.co_name == "train"
    return inside and event == "call"


def is_step_around_threads(code, event, called):
    files = ("_threads.py", "_forward.py", "threading.py", "concurrent/futures")
    waits = event == "c_call" and called.__name__ in ("acquire", "get")
    inside = any(name in code.co_filename for name in files)
    return inside and (waits or event in ("call", "c_return"))


def strike(work, number, is_step):
    """Interrupt the step of that number; tell whether it came to it.

    In a destructor Python prints the interrupt, and goes on.
    """
    came = []
    left = iter(range(number))
    began = torch.get_rng_state()

    def profile(frame, event, called):
        if is_step(frame.f_code, event, called) and next(left, None) is None:
            sys.setprofile(None)
            came.append(number)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(profile)
    try:
        with suppress(KeyboardInterrupt):
            work.run()
    finally:
        sys.setprofile(None)
    assert torch.equal(torch.get_rng_state(), began)
    return bool(came)


def interrupted_at_times(folder, what, n_times):
    """A signal of a timer, which may come between any two steps."""
    chance = random.Random(0)  # noqa: S311 - seeded
    under_way = False

    def interrupt(*_):
        if under_way:  # one that another thread got may be heard late
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    work = Work(folder, what)
    work.run()  # imports, and code that is made at first use
    work.anew()
    began = time.perf_counter()
    work.run()
    seconds = time.perf_counter() - began
    work.anew()
    n_struck = 0
    for _ in range(int(n_times)):
        with never_stuck():
            under_way = True
            began = time.perf_counter()
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, seconds))
                work.run()
                signal.setitimer(signal.ITIMER_REAL, 0)
                under_way = False
                # The machine may have been busy before, and no signal would strike.
                seconds = min(seconds, time.perf_counter() - began)
            except KeyboardInterrupt:
                under_way = False
                n_struck += 1
            work.check()
        work.anew()
    settled()
    assert n_struck > int(n_times) / 5, n_struck


if __name__ == "__main__":
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    name, *arguments = sys.argv[1:]
    globals()[name](*arguments)
