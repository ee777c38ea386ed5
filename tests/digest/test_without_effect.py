"""Locks, logs and the like decide no result, and so stop no cache."""

import concurrent.futures
import contextlib
import contextvars
import functools
import itertools
import logging
import multiprocessing
import os
import sys
import threading
import time
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from tqdm import tqdm

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._digest import digest
from sklearn_torch_bridge._errors import FingerprintError

logger = logging.getLogger(__name__)
own_logger = logging.Logger("of nobody")  # noqa: LOG001 - one that pickle refuses
own_logger.addHandler(logging.NullHandler())
HANDLER = logging.StreamHandler()
LOCK, RLOCK, CONDITION = threading.Lock(), threading.RLock(), threading.Condition()
LOCK_OF_PROCESSES = multiprocessing.get_context("spawn").Lock()
LOCAL = threading.local()
POOL = concurrent.futures.ThreadPoolExecutor(1)
CONTEXT = contextvars.ContextVar("CONTEXT", default=1)
NUMBERS = itertools.count()
TIMES, SEEN = [], weakref.WeakSet()
WARNED = False
ROOT = Path(__file__).parent
scale = 2.0


class Timer:
    """Keeps times, which it only shows."""

    def __init__(self):
        self.begin = self.total = 0.0
        self.n_uses = 0

    def __enter__(self):
        self.begin = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.total += time.perf_counter() - self.begin
        self.n_uses += 1

    def __repr__(self):
        return f"{self.total} s in {self.n_uses} uses"


class Meter:
    def __init__(self):
        self.sum = self.n = 0
        self.mean = 0.0

    def update(self, value):
        self.sum += value
        self.n += 1
        self.mean = self.sum / self.n

    def report(self):
        return self.mean


TIMER, METER = Timer(), Meter()


def timed(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        begin = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            TIMES.append(time.perf_counter() - begin)

    return wrapper


@contextlib.contextmanager
def clock(name):
    begin = time.time()
    yield
    logger.debug("%s took %s", name, time.time() - begin)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)


class Logging(Plain):
    def forward(self, x):
        logger.debug("rows: %s", len(x))
        own_logger.info("rows: %s", x.shape)
        HANDLER.flush()
        print(end="", file=sys.stdout)  # noqa: T201 - what is tested
        sys.stderr.write("")
        tqdm.write("", end="")
        return self.linear(x) * scale


class Locking(Plain):
    def forward(self, x):
        with LOCK, RLOCK, CONDITION, LOCK_OF_PROCESSES:
            return self.linear(x) * scale


class Timing(Plain):
    @timed
    def forward(self, x):
        METER.update(len(x))
        with clock("forward"), TIMER, torch.profiler.record_function("forward"):
            return self.linear(x) * scale


class WarningOnce(Plain):
    def forward(self, x):
        global WARNED  # noqa: PLW0603 - what is tested
        if not WARNED:
            logger.warning("once")
            WARNED = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.warn("often", stacklevel=1)
        return self.linear(x) * scale


class Numbering(Plain):
    def __init__(self):
        super().__init__()
        self.number = 0
        self.first = next(NUMBERS) * 0
        self.folder = os.environ.get(f"{self.number}_FOLDER")

    def forward(self, x):
        next(NUMBERS)
        SEEN.add(self.linear)
        return self.linear(x) * scale


class Local(Plain):
    def forward(self, x):
        POOL.submit(len, x).result()
        factor = getattr(LOCAL, "factor", 1) * CONTEXT.get()
        return self.linear(x) * scale * factor


class Asking(Plain):
    def forward(self, x):
        if torch.jit.is_scripting() or torch.compiler.is_compiling():
            return x
        if os.environ.get("STB_TESTS_DEBUG"):
            logger.info("%s %s", ROOT, __file__)
        return torch.utils.checkpoint.checkpoint(
            lambda x: self.linear(x) * scale, x, use_reentrant=False
        )


MODELS = [Logging, Locking, Timing, WarningOnce, Numbering, Local, Asking]


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_what_decides_nothing_stops_no_cache(kind, cache, rng, monkeypatch):
    module = kind()
    X = rng.normal(size=(5, 4)).astype(np.float32)
    extractor = TorchFeatureExtractor(module, cache=cache, batch_size=2)
    Z = extractor.transform(X)
    np.testing.assert_array_equal(extractor.transform(X), Z)
    assert len(cache) == len(X)
    monkeypatch.setitem(globals(), "scale", 3.0)
    expected = TorchFeatureExtractor(module, batch_size=2).transform(X)
    np.testing.assert_array_equal(extractor.transform(X), expected)
    assert np.abs(expected - Z).max() > 1e-3


@pytest.mark.parametrize("name", ["LOCAL", "CONTEXT"])
def test_values_of_a_thread_or_context_count(name):
    module = Local()
    before = digest(module)
    if name == "LOCAL":
        LOCAL.factor = 2
    else:
        token = CONTEXT.set(2)
    try:
        assert digest(module) != before
    finally:
        if name == "LOCAL":
            del LOCAL.factor
        else:
            CONTEXT.reset(token)


HELD = {
    "lock": threading.Lock,
    "reentrant lock": threading.RLock,
    "event": threading.Event,
    "semaphore": threading.Semaphore,
    "handler": logging.StreamHandler,
    "stream": lambda: sys.stdout,
    "bar": lambda: tqdm(disable=True),
    "event of a device": torch.Event,
    "logger": lambda: own_logger,
}


@pytest.mark.parametrize("make", HELD.values(), ids=HELD)
def test_attributes_that_decide_nothing_stop_no_cache(make):
    module = Plain()
    module.held = make()
    assert digest(module) == digest(module)


def test_a_file_that_is_only_written_to_is_a_log(tmp_path):
    with (tmp_path / "log").open("w") as log:

        def writes(x):
            log.write("a row")
            print("another", file=log)
            return x

        def reads(x):
            return x + log.tell()

        before = digest(writes)
        writes(1)
        assert digest(writes) == before
        with pytest.raises(FingerprintError, match=r"'log' is .*_io\.TextIOWrapper"):
            digest(reads)


def test_a_counter_that_only_its_report_reads_does_not_count():
    meter = Meter()

    def counts(x):
        meter.update(len(x))
        return x

    def reports(x):
        meter.update(len(x))
        return x * meter.report()

    before = digest(counts), digest(reports)
    counts([1])
    assert digest(counts) == before[0]
    assert digest(reports) != before[1]
