"""Extractors over Dask collections: the plain result, whatever the cut."""

import logging
import pickle
import re
from itertools import pairwise

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from sklearn_torch_bridge import EmbeddingCache, PartitionError, TorchFeatureExtractor
from sklearn_torch_bridge.adapters import _dask, to_dask, weights_in_file
from tests.tiny_models import Counting, Failing, cnn, mlp
from tests.worker_models import (
    Builder,
    Killing,
    Letters,
    Noted,
    as_letters,
    loads_in,
)

dask = pytest.importorskip("dask", reason="needs Dask (extra 'dask')")
distributed = pytest.importorskip("distributed", reason="needs Dask (extra 'dask')")
da = pytest.importorskip("dask.array", reason="needs Dask (extra 'dask')")
dd = pytest.importorskip("dask.dataframe", reason="needs Dask (extra 'dask')")
db = pytest.importorskip("dask.bag", reason="needs Dask (extra 'dask')")

N_ROWS = 23


@pytest.fixture(scope="module")
def client():
    """Give a client of two worker processes, which nobody else can reach."""
    # A LocalCluster gives a worker up that is away 15 s after it was, also for another
    # time: tests that kill one after the other would end it.
    patient = {"distributed.deploy.lost-worker-timeout": "1 hour"}
    with (
        dask.config.set(patient),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def on_cluster(client):
    """Make the cluster the one that `compute` takes."""
    with client.as_current(), dask.config.set(scheduler="dask.distributed"):
        yield client


def assert_close(found, expected):
    """Compare rows that ran in other batches."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    limit = 1e-5 * max(1e-30, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


def made(kind):
    """Give rows of a kind, and an extractor fitted on them."""
    rng = np.random.default_rng(0)
    if kind == "images":
        X = rng.normal(size=(N_ROWS, 3, 6, 6)).astype(np.float32)
        return X, TorchFeatureExtractor(cnn(), batch_size=4).fit(X)
    if kind in ("texts", "bag"):
        words = ["sea", "a", "morning train", "", "ok", "é", "never again"]
        X = [f"{words[n % 7]} {words[n % 5]}"[: n + 1] for n in range(N_ROWS)]
        model = TorchFeatureExtractor(Letters(), preprocess=as_letters, batch_size=4)
        return X, model.fit(X)
    X = rng.normal(size=(N_ROWS, 4))
    if kind == "frame":
        X = pd.DataFrame(X, columns=list("abcd"))
    return X, TorchFeatureExtractor(mlp(), batch_size=4).fit(X)


def as_collection(kind, X, cuts):
    """Give rows as a Dask collection with a partition from each cut to the next."""
    ends = [0, *sorted(cuts), N_ROWS]
    sizes = tuple(int(size) for size in np.diff(ends))
    if kind in ("array", "images"):
        chunks = (sizes, *((n,) for n in X.shape[1:]))
        return da.from_array(X, chunks=chunks)
    pairs = list(pairwise(ends))
    if kind == "bag":
        graph = {("rows", n): X[a:b] for n, (a, b) in enumerate(pairs)}
        return db.Bag(graph, "rows", len(pairs))
    rows = X if kind == "frame" else pd.Series(X, name="text")
    meta = rows.iloc[:0]
    return dd.from_map(lambda pair: rows.iloc[slice(*pair)], pairs, meta=meta)


@pytest.fixture(autouse=True)
def in_this_process():
    """Let nothing that a test does not mean to send start a process."""
    with dask.config.set(scheduler="sync"):
        yield


KINDS = ["array", "images", "texts", "frame", "bag"]
CUTS = st.lists(st.integers(0, N_ROWS), max_size=8)


@pytest.mark.parametrize("kind", KINDS)
@given(cuts=CUTS, known=st.booleans())
def test_the_result_is_the_plain_one_however_rows_are_cut(kind, cuts, known):
    X, extractor = made(kind)
    rows = as_collection(kind, X, cuts)
    lengths = True if known and kind not in ("array", "images") else None
    Z = to_dask(extractor, rows, lengths=lengths)
    expected = extractor.transform(X)
    assert Z.dtype == expected.dtype
    assert Z.shape[1:] == expected.shape[1:]
    if lengths or kind in ("array", "images"):
        ends = [0, *sorted(cuts), N_ROWS]
        assert Z.chunks[0] == tuple(np.diff(ends))
    else:
        assert all(np.isnan(size) for size in Z.chunks[0])
    assert_close(Z.compute(), expected)


@pytest.mark.usefixtures("on_cluster")
@pytest.mark.parametrize("weights", ["file", "scheduler"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_the_plain_one_on_a_cluster(kind, weights):
    X, extractor = made(kind)
    rows = as_collection(kind, X, [3, 3, 8, 9, 20])
    Z = to_dask(extractor, rows, weights=weights).compute()
    assert_close(Z, extractor.transform(X))


def test_columns_in_several_chunks_are_brought_together():
    X, extractor = made("array")
    Z = to_dask(extractor, da.from_array(X, chunks=(7, 3)))
    assert Z.chunks == ((7, 7, 7, 2), (3,))
    assert_close(Z.compute(), extractor.transform(X))


def test_rows_that_were_chosen_leave_their_number_unknown():
    X, extractor = made("array")
    rows = da.from_array(X, chunks=(7, 3))
    Z = to_dask(extractor, rows[rows[:, 0] > 0])
    assert np.isnan(Z.shape[0])
    expected = extractor.transform(X[X[:, 0] > 0])
    assert_close(Z.compute(), expected)


def test_a_partition_that_all_rows_were_dropped_from_is_empty():
    X, extractor = made("frame")
    frame = dd.from_pandas(X, npartitions=4)
    kept = frame[frame.a > X.a.max() - 1e-9]
    Z = to_dask(extractor, kept, lengths=True)
    assert sorted(Z.chunks[0]) == [0, 0, 0, 1]
    expected = extractor.transform(X[X.a > X.a.max() - 1e-9])
    assert_close(Z.compute(), expected)


def test_vectors_with_more_axes():
    X, _ = made("images")
    extractor = TorchFeatureExtractor(cnn(), pooling=None).fit(X)
    Z = to_dask(extractor, da.from_array(X, chunks=(5, 3, 6, 2)))
    assert Z.chunks == ((5, 5, 5, 5, 3), (5,), (4,), (4,))
    assert_close(Z.compute(), extractor.transform(X))


def test_an_array_of_texts():
    X, extractor = made("texts")
    Z = to_dask(extractor, da.from_array(np.array(X, dtype=object), chunks=6))
    assert_close(Z.compute(), extractor.transform(X))


def test_a_lazy_part_of_a_bag():
    X, extractor = made("bag")
    bag = db.from_sequence(X, npartitions=3).map(str.upper)
    Z = to_dask(extractor, bag, lengths=True)
    assert sum(Z.chunks[0]) == N_ROWS
    expected = extractor.transform([text.upper() for text in X])
    assert_close(Z.compute(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_computed_at_the_call(kind):
    X, extractor = made(kind)

    def refuse(_):
        raise AssertionError

    rows = as_collection(kind, X, [5])
    if kind in ("array", "images"):
        rows = rows.map_blocks(refuse, meta=rows._meta, dtype=rows.dtype)
    elif kind == "bag":
        rows = rows.map_partitions(refuse)
    else:
        rows = rows.map_partitions(refuse, meta=rows._meta)
    Z = to_dask(extractor, rows)
    with pytest.raises(AssertionError):
        Z.compute()


def test_the_width_costs_no_row_if_fitted_and_one_that_is_made_up_if_not():
    X, _ = made("array")
    model = Counting(mlp())
    rows = da.from_array(X, chunks=(5, 4))
    assert to_dask(TorchFeatureExtractor(model), rows).shape == (N_ROWS, 3)
    assert model.tally.rows == 1
    fitted = TorchFeatureExtractor(model).fit(X)
    model.tally.sizes.clear()
    declared = TorchFeatureExtractor(model)
    assert to_dask(fitted, rows).shape == (N_ROWS, 3)
    Z = to_dask(declared, rows, meta=np.empty((0, 3), np.float32))
    assert model.tally.rows == 0
    assert_close(Z.compute(), fitted.transform(X))


def test_a_wrong_meta_is_an_error_of_the_partition():
    X, extractor = made("array")
    rows = da.from_array(X, chunks=(5, 4))
    Z = to_dask(extractor, rows, meta=np.empty((0, 7), np.float32))
    with pytest.raises(PartitionError, match=r"partition 0 .*shape \(5, 7\)"):
        Z[:5].compute()


METHODS = ["predict", "predict_proba", "decision_function", "predict_log_proba"]


@pytest.mark.usefixtures("on_cluster")
@pytest.mark.parametrize("method", METHODS)
def test_predictions_of_a_pipeline(method):
    X, extractor = made("array")
    y = np.array(["no", "yes", "perhaps"])[np.arange(N_ROWS) % 3]
    pipe = make_pipeline(extractor, StandardScaler(), LogisticRegression()).fit(X, y)
    rows = da.from_array(X, chunks=((6, 0, 10, 7), (2, 2)))  # one is empty
    P = to_dask(pipe, rows, method=method)
    expected = getattr(pipe, method)(X)
    assert P.dtype == expected.dtype
    assert P.chunks[1:] == tuple((size,) for size in expected.shape[1:])
    found = P.compute()
    if method == "predict":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_pipeline_of_one_step_is_its_step():
    X, extractor = made("array")
    Z = to_dask(make_pipeline(extractor), da.from_array(X, chunks=(6, 4)))
    assert_close(Z.compute(), extractor.transform(X))


def test_a_pipeline_that_ends_in_sparse_rows_is_refused():
    X, extractor = made("array")
    pipe = make_pipeline(extractor, OneHotEncoder(handle_unknown="ignore")).fit(X)
    with pytest.raises(TypeError, match="must return an array, got a sparse one"):
        to_dask(pipe, da.from_array(X, chunks=(6, 4)))


def test_a_pipeline_of_frames():
    X, extractor = made("frame")
    extractor.set_output(transform="pandas")
    pipe = make_pipeline(extractor, StandardScaler(), LogisticRegression())
    pipe.fit(X, np.arange(N_ROWS) % 2)
    P = to_dask(pipe, dd.from_pandas(X, npartitions=3), method="predict")
    np.testing.assert_array_equal(P.compute(), pipe.predict(X))


@pytest.mark.usefixtures("on_cluster")
@pytest.mark.parametrize("weights", ["file", "scheduler"])
def test_a_module_is_loaded_once_by_each_worker(tmp_path, weights):
    X = np.random.default_rng(0).normal(size=(40, 4))
    extractor = TorchFeatureExtractor(Noted(tmp_path)).fit(X)
    Z = to_dask(extractor, da.from_array(X, chunks=(1, 4)), weights=weights)
    assert_close(Z.compute(), extractor.transform(X))
    assert_close((Z + 1).compute(), extractor.transform(X) + 1)  # again
    pids = loads_in(tmp_path)
    assert len(pids) == len(set(pids)) == 2


@pytest.mark.usefixtures("on_cluster")
def test_a_callable_is_called_once_by_each_worker(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 4))
    extractor = TorchFeatureExtractor(Builder(tmp_path)).fit(X)
    Z = to_dask(extractor, da.from_array(X, chunks=(1, 4)))
    assert_close(Z.compute(), extractor.transform(X))
    pids = loads_in(tmp_path)
    assert len(pids) == len(set(pids)) == 2


@pytest.mark.usefixtures("on_cluster")
def test_a_model_string_is_loaded_by_the_workers(minilm_path, texts):
    extractor = TorchFeatureExtractor(f"hf:{minilm_path}", layer="encoder.layer.0")
    Z = to_dask(extractor.fit(texts), db.from_sequence(texts, npartitions=4))
    assert len(pickle.dumps(Z.__dask_graph__())) < 10_000
    assert_close(Z.compute(), extractor.transform(texts))


@pytest.fixture
def sent_bytes(monkeypatch):
    """Count what this process writes to each connection, message by message."""
    from distributed.comm import tcp

    sizes = []
    to_frames = tcp.to_frames

    async def counting(*args, **options):
        frames = await to_frames(*args, **options)
        sizes.append(sum(memoryview(frame).nbytes for frame in frames))
        return frames

    monkeypatch.setattr(tcp, "to_frames", counting)
    return sizes


@pytest.mark.usefixtures("on_cluster")
@pytest.mark.parametrize(
    ("weights", "limit"), [("file", 1_000_000), ("scheduler", 61_000_000)]
)
def test_weights_do_not_travel_with_the_graph(sent_bytes, weights, limit):
    """The model has 20 MB; to two workers it goes from the scheduler, in here too."""
    torch.manual_seed(0)
    X = np.random.default_rng(0).normal(size=(200, 500))
    model = nn.Sequential(nn.Linear(500, 10_000), nn.ReLU())
    extractor = TorchFeatureExtractor(model, pooling="gap").fit(X)
    rows = da.random.default_rng(0).normal(size=(200, 500), chunks=(1, 500))
    Z = to_dask(extractor, rows, weights=weights)
    graph = pickle.dumps(Z.__dask_graph__())
    assert len(graph) <= 1_000_000
    Z[:, :2].sum().compute()
    assert sum(sent_bytes) <= limit + 200 * 20_000
    assert max(sent_bytes, default=0) <= (
        1_000_000 if weights == "file" else 21_000_000
    )


@pytest.mark.usefixtures("on_cluster")
@pytest.mark.parametrize("weights", ["file", "scheduler"])
def test_a_killed_worker_changes_nothing(tmp_path, weights):
    X = np.random.default_rng(0).normal(size=(12, 4))
    X[7, 0] = 13
    extractor = TorchFeatureExtractor(Killing(tmp_path)).fit(X[:1])
    Z = to_dask(extractor, da.from_array(X, chunks=(1, 4)), weights=weights)
    found = Z.compute()
    assert (tmp_path / "killed").exists()
    assert_close(found, extractor.transform(X))


@pytest.mark.usefixtures("on_cluster")
def test_an_error_names_the_partition_and_the_row():
    X = np.zeros((20, 4))
    X[13, 0] = X[15, 0] = 9
    extractor = TorchFeatureExtractor(Failing(5)).fit(X[:1])
    Z = to_dask(extractor, da.from_array(X, chunks=(8, 4)))
    with pytest.raises(PartitionError, match=r"^row 5 of partition 1 failed: .*boom"):
        Z.compute()


@pytest.mark.parametrize("kind", ["texts", "bag"])
def test_a_missing_text_is_named(kind):
    X, extractor = made(kind)
    X[9] = None
    Z = to_dask(extractor, as_collection(kind, X, [8, 16]))
    words = r"^row 1 of partition 1 failed: ValueError: .*row 1 is missing"
    with pytest.raises(PartitionError, match=words):
        Z.compute()


def test_a_failure_of_no_single_row_names_the_partition():
    def all_differ(rows):
        if len(rows) > 3:
            msg = "too many"
            raise ValueError(msg)
        return torch.zeros(len(rows), 2)

    extractor = TorchFeatureExtractor(nn.Identity(), preprocess=all_differ)
    rows = db.from_sequence(list("abcdefgh"), npartitions=2)
    Z = to_dask(extractor, rows, meta=np.empty((0, 2), np.float32))
    with pytest.raises(PartitionError, match=r"^partition \d failed: .*too many"):
        Z.compute()


@pytest.mark.usefixtures("on_cluster")
def test_workers_share_a_cache(cache_path):
    X, _ = made("array")
    extractor = TorchFeatureExtractor(mlp(), cache=cache_path).fit(X)
    Z = to_dask(extractor, da.from_array(X, chunks=(3, 4)))
    first = Z.compute()
    with EmbeddingCache(cache_path) as cache:
        assert cache.stats()["rows"] == N_ROWS
    np.testing.assert_array_equal(extractor.transform(X), first)  # to the last bit


def searched(X, model):
    pipe = make_pipeline(TorchFeatureExtractor(model), LogisticRegression())
    grid = {"logisticregression__C": [0.1, 1, 10]}
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise")
    return search.fit(X, np.arange(len(X)) % 2)


@pytest.mark.usefixtures("on_cluster")
def test_a_search_on_joblibs_backend_sends_no_weights(sent_bytes):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 300_000), nn.Linear(300_000, 3))  # 9.6 MB
    X = np.random.default_rng(0).normal(size=(20, 4))
    expected = searched(X, model).cv_results_["mean_test_score"]
    with weights_in_file(), joblib.parallel_config(backend="dask"):
        found = searched(X, model).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, expected)
    assert max(sent_bytes) <= 1_000_000


@pytest.mark.usefixtures("on_cluster")
@pytest.mark.parametrize("block", [True, False], ids=["in a block", "plain"])
def test_parallel_post_fit_of_dask_ml(block):
    wrappers = pytest.importorskip("dask_ml.wrappers", reason="needs dask-ml")
    X, extractor = made("array")
    pipe = make_pipeline(extractor, LogisticRegression())
    pipe.fit(X, np.arange(N_ROWS) % 2)
    rows = da.from_array(X, chunks=(6, 4))
    post = wrappers.ParallelPostFit(pipe)
    with weights_in_file() if block else joblib.parallel_config():
        np.testing.assert_array_equal(post.predict(rows).compute(), pipe.predict(X))
        Z = wrappers.ParallelPostFit(extractor).transform(rows)
        assert_close(Z.compute(), extractor.transform(X))


@pytest.mark.usefixtures("on_cluster")
def test_map_blocks_of_dask():
    X, extractor = made("array")
    rows = da.from_array(X, chunks=(6, 4))
    expected = extractor.transform(X)
    Z = da.map_blocks(extractor.transform, rows, dtype=np.float32, chunks=(6, 3))
    assert_close(Z.compute(), expected)


def test_the_scheduler_is_asked_where_workers_are_elsewhere(on_cluster, monkeypatch):
    X, extractor = made("array")
    extractor = TorchFeatureExtractor(nn.Linear(4, 9_000)).fit(X)
    rows = da.from_array(X, chunks=(6, 4))
    assert _dask._are_all_here(on_cluster)
    monkeypatch.setattr(
        type(on_cluster), "nthreads", lambda self: {"tcp://192.0.2.77:1234": 1}
    )
    assert not _dask._are_all_here(on_cluster)
    sent = []
    monkeypatch.setattr(
        type(on_cluster), "register_plugin", lambda self, *_, name: sent.append(self)
    )
    to_dask(extractor, rows)
    assert sent == [on_cluster]


@pytest.mark.usefixtures("on_cluster")
def test_a_folder_that_all_share(tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 4))
    extractor = TorchFeatureExtractor(nn.Linear(4, 9_000)).fit(X)
    Z = to_dask(extractor, da.from_array(X, chunks=(6, 4)), weights=tmp_path)
    assert_close(Z.compute(), extractor.transform(X))
    assert [path.suffix for path in tmp_path.iterdir()] == [".weights"]


def test_equal_calls_make_equal_graphs():
    X, extractor = made("array")
    rows = da.from_array(X, chunks=(6, 4))
    assert to_dask(extractor, rows).name == to_dask(extractor, rows).name
    assert to_dask(extractor, rows + 1).name != to_dask(extractor, rows).name
    other = TorchFeatureExtractor(mlp(seed=1)).fit(X)
    assert to_dask(other, rows).name != to_dask(extractor, rows).name


ROWS = ("array", "frame", "bag")


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"extractor": LogisticRegression()}, TypeError, "`extractor` must be a Torch"),
        ({"extractor": make_pipeline(StandardScaler())}, TypeError, "got Pipeline"),
        (
            {"collection": [[1, 2]]},
            TypeError,
            "`collection` must be a Dask .* got list",
        ),
        (
            {"collection": da.from_array(np.array(3.0))},
            ValueError,
            "`collection` must have an axis of rows",
        ),
        ({"method": "predict"}, ValueError, "`method` must name .* got 'predict'"),
        ({"lengths": [1]}, ValueError, "`lengths` must be None for an array"),
        ({"weights": "/no/such"}, ValueError, "`weights` must be .* got '/no/such'"),
        ({"weights": "scheduler"}, ValueError, r"needs a distributed\.Client"),
        ({"meta": 3}, ValueError, "`meta` must be an array with an axis of rows"),
    ],
    ids=lambda value: None if isinstance(value, (str, type)) else next(iter(value)),
)
def test_what_cannot_be_is_refused(wrong, error, words):
    X, extractor = made("array")
    given = {"extractor": extractor, "collection": da.from_array(X, chunks=(6, 4))}
    given |= wrong
    with pytest.raises(error, match=words):
        to_dask(given.pop("extractor"), given.pop("collection"), **given)


def test_lengths_are_one_a_partition():
    X, extractor = made("bag")
    bag = db.from_sequence(X, npartitions=3)
    lengths = [len(part.compute()) for part in bag.to_delayed()]
    Z = to_dask(extractor, bag, lengths=np.array(lengths))
    assert Z.chunks[0] == tuple(lengths)
    assert_close(Z.compute(), extractor.transform(X))
    with pytest.raises(ValueError, match=re.escape("one entry a partition (3), got 2")):
        to_dask(extractor, bag, lengths=[3, 4])


def test_columns_of_an_unknown_number_are_refused():
    X, extractor = made("array")
    rows = da.from_array(X, chunks=(6, 4)).T
    with pytest.raises(ValueError, match="known number of columns"):
        to_dask(extractor, rows[:, rows[0] > 0])


def test_a_wrong_number_of_columns_is_refused_at_the_call():
    X, extractor = made("array")
    with pytest.raises(ValueError, match=r"X has 3 features, but .* expecting 4"):
        to_dask(extractor, da.from_array(X[:, :3], chunks=(6, 3)))


def test_an_old_dask_is_refused(monkeypatch):
    monkeypatch.setattr(
        "sklearn_torch_bridge._packages.version", lambda name: "2024.12"
    )
    X, extractor = made("array")
    with pytest.raises(ImportError, match=r"needs dask 2025\.1 or later, got 2024\.12"):
        to_dask(extractor, da.from_array(X, chunks=(6, 4)))
