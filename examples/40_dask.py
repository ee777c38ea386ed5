"""Embed and classify more rows than one process takes, on Dask.

A fitted Pipeline runs over a Dask array and over a frame of texts, by two worker
processes that load the model once each. On a cluster, only the client is another.
Takes a few seconds.
"""

# %%
# A cluster of two processes on this machine. Elsewhere: Client("scheduler:8786").
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import torch
from dask.distributed import Client, LocalCluster
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklearn_torch_bridge import PartitionError, TorchFeatureExtractor
from sklearn_torch_bridge.adapters import to_dask

SLACK = 1_000  # rows


def letters(texts):
    """Count the letters of each text: a tokenizer in small."""
    counts = [[text.count(letter) for letter in "abcdefghijklm"] for text in texts]
    return torch.tensor(counts, dtype=torch.float32)


def main():
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs="CRITICAL",
    )
    client = Client(cluster)

    # %%
    # A Pipeline, fitted on rows that fit in memory.
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 2_000), torch.nn.Tanh())
    X = rng.normal(size=(500, 8))
    y = np.where(X[:, 0] > 0, "up", "down")
    pipe = make_pipeline(TorchFeatureExtractor(model), LogisticRegression()).fit(X, y)

    # %%
    # The same over an array in chunks, whose rows workers make or read themselves.
    # Nothing runs yet, but width and dtype are known.
    many = da.random.default_rng(0).normal(size=(20_000, 8), chunks=(1_000, 8))
    labels = to_dask(pipe, many, method="predict")
    assert (labels.shape, labels.dtype) == ((20_000,), y.dtype)
    n_up = int((labels == "up").sum().compute())
    print(f"{n_up:,} of {len(labels):,} rows go up")
    assert abs(n_up - len(labels) / 2) < SLACK

    # %%
    # Texts in a frame. How many rows a partition has is not known until it is counted.
    extractor = TorchFeatureExtractor(torch.nn.Linear(13, 4), preprocess=letters)
    texts = [f"text {'abcd'[n % 4]}" for n in range(1_000)]
    extractor.fit(texts)
    frame = dd.from_pandas(pd.DataFrame({"text": texts}), npartitions=5)
    Z = to_dask(extractor, frame["text"], lengths=True)
    assert Z.chunks == ((200,) * 5, (4,))
    np.testing.assert_allclose(Z.compute(), extractor.transform(texts), atol=1e-6)

    # %%
    # A row that cannot be used is named.
    bad = X.copy()
    bad[123, 0] = np.nan
    failure = ""
    try:
        to_dask(pipe, da.from_array(bad, chunks=(50, 8)), method="predict").compute()
    except PartitionError as error:
        failure = str(error)
    print(failure.partition("\n")[0])
    assert failure.startswith("row 23 of partition 2 failed")

    client.close()
    cluster.close()


# Workers import this file; they must not start clusters of their own.
if __name__ == "__main__":
    main()
