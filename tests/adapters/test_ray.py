"""Extractors over Ray Datasets: the plain result, and the columns that were there."""

import pickle
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
from torch import nn

from sklearn_torch_bridge import PartitionError, TorchFeatureExtractor
from sklearn_torch_bridge.adapters import to_ray, weights_in_file
from sklearn_torch_bridge.adapters._parcel import Reference, pack
from sklearn_torch_bridge.adapters._ray import Extract
from sklearn_torch_bridge.adapters._row_spec import row_spec_of
from sklearn_torch_bridge.adapters._runner import Runner
from tests.tiny_models import Failing, cnn, mlp
from tests.worker_models import Builder, Killing, Letters, Noted, as_letters, loads_in

ray = pytest.importorskip("ray", reason="needs Ray (extra 'ray')")
pa = pytest.importorskip("pyarrow", reason="needs Ray Data (extra 'ray')")
pytest.importorskip("ray.data", reason="needs Ray Data (extra 'ray')")

# Ray 2.60 sets options of its own that it calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    r"ignore::DeprecationWarning:ray\.data\.context"
)

N_ROWS = 23


@pytest.fixture(scope="module")
def cluster():
    """Give two CPUs, on an address that nobody else can reach."""
    from ray._private import ray_constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do
        # What Ray does on desktops: else it looks for an address that others can reach.
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", value=False)
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=300_000_000,
            log_to_driver=False,
            logging_level="ERROR",
        )
        assert ray.util.get_node_ip_address() == "127.0.0.1"
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        yield context
        ray.shutdown()


def assert_close(found, expected):
    """Compare rows that ran in other batches."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    limit = 1e-5 * max(1e-30, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


def made(kind):
    """Give rows of a kind, and an extractor fitted on them."""
    rng = np.random.default_rng(0)
    if kind == "image":
        X = rng.normal(size=(N_ROWS, 3, 6, 6)).astype(np.float32)
        return X, TorchFeatureExtractor(cnn(), batch_size=4).fit(X)
    if kind == "text":
        X = ["sea train morning ok"[: n % 20 + 1] for n in range(N_ROWS)]
        model = TorchFeatureExtractor(Letters(), preprocess=as_letters, batch_size=4)
        return X, model.fit(X)
    X = rng.normal(size=(N_ROWS, 4))
    return X, TorchFeatureExtractor(mlp(), batch_size=4).fit(X)


def as_dataset(n_blocks=4, **columns):
    rows = [
        {"id": n, **{name: values[n] for name, values in columns.items()}}
        for n in range(N_ROWS)
    ]
    return ray.data.from_items(rows, override_num_blocks=n_blocks)


def stacked(dataset, column):
    return np.stack([row[column] for row in dataset.take_all()])


KINDS = ["text", "image", "tensor"]


def extract(extractor, method="transform", **options):
    """Give what an actor does, in this process."""
    reference = Reference(extractor, pack(extractor))
    runner = Runner(reference, method, row_spec_of(extractor, method, []))
    return Extract(runner, **{"output_column": "Z", **options})


def as_table(**columns):
    """Give a table as Ray Data makes one."""
    from ray.data.block import BlockAccessor

    return BlockAccessor.batch_to_arrow_block(columns)


@pytest.mark.parametrize("kind", KINDS)
@given(cuts=st.lists(st.integers(0, N_ROWS), max_size=8))
def test_the_result_is_the_plain_one_however_rows_are_cut(kind, cuts):
    X, extractor = made(kind)
    rows = np.array(X, dtype=object) if kind == "text" else X
    table = as_table(id=np.arange(N_ROWS), X=rows)
    actor = extract(extractor, column="X")
    ends = [0, *sorted(cuts), N_ROWS]
    parts = [actor(table.slice(a, b - a)) for a, b in pairwise(ends)]
    whole = pa.concat_tables(parts)
    assert whole.drop_columns(["Z"]).equals(table)
    found = whole.column("Z").combine_chunks().to_numpy_ndarray()
    assert_close(found, extractor.transform(X))


def test_columns_of_numbers_are_a_frame():
    X = pd.DataFrame(made("tensor")[0], columns=list("abcd"))
    extractor = TorchFeatureExtractor(mlp()).fit(X)
    table = as_table(**{name: X[name].to_numpy() for name in "dcbax"[:4]})
    done = extract(extractor, column=list("abcd"))(table)
    found = done.column("Z").combine_chunks().to_numpy_ndarray()
    assert_close(found, extractor.transform(X))


def test_one_column_of_numbers_is_a_matrix():
    X = np.arange(6.0)
    extractor = TorchFeatureExtractor(nn.Linear(1, 2)).fit(X[:, None])
    done = extract(extractor, column="X")(as_table(X=X))
    found = done.column("Z").combine_chunks().to_numpy_ndarray()
    assert_close(found, extractor.transform(X[:, None]))


def test_tensors_of_several_shapes_are_rows(rng):
    rows = [rng.normal(size=(n % 3 + 2, 4)).astype(np.float32) for n in range(7)]
    as_tensors = TorchFeatureExtractor(
        nn.Identity(),
        preprocess=lambda batch: torch.stack([torch.tensor(b.sum(0)) for b in batch]),
    ).fit(rows)
    column = np.empty(7, object)
    column[:] = rows
    done = extract(as_tensors, column="X")(as_table(X=column))
    found = done.column("Z").combine_chunks().to_numpy_ndarray()
    assert_close(found, as_tensors.transform(rows))


def test_values_are_a_plain_column():
    X, extractor = made("tensor")
    y = np.array(["no", "yes"])[np.arange(N_ROWS) % 2]
    pipe = make_pipeline(extractor, LogisticRegression()).fit(X, y)
    done = extract(pipe, "predict", column="X")(as_table(X=X))
    assert done.column("Z").type == pa.string()
    assert done.column("Z").to_pylist() == pipe.predict(X).tolist()


def test_an_error_names_the_row_and_what_is_beside_it():
    X, extractor = made("text")
    X[9] = None
    table = as_table(id=np.arange(N_ROWS), X=np.array(X, dtype=object))
    actor = extract(extractor, column="X")
    words = (
        r"^row 4 of a batch of 8 rows \(id=9\) failed: ValueError: .*row 4 is missing"
    )
    with pytest.raises(PartitionError, match=words):
        actor(table.slice(5, 8))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column": "Y"}, r"`column` must name columns .* \('X'\), got 'Y'"),
        ({"column": "X", "output_column": "X"}, "`output_column` must be a name that"),
    ],
    ids=["column", "output_column"],
)
def test_names_of_columns_are_checked(options, words):
    X, extractor = made("tensor")
    with pytest.raises(ValueError, match=words):
        extract(extractor, **options)(as_table(X=X))


@pytest.mark.usefixtures("cluster")
def test_columns_of_every_kind_on_a_cluster_and_in_parquet(tmp_path):
    kinds = {kind: made(kind) for kind in KINDS}
    dataset = as_dataset(**{kind: X for kind, (X, _) in kinds.items()})
    before = dataset.schema()
    y = np.arange(N_ROWS) % 2
    X, extractor = kinds["tensor"]
    pipe = make_pipeline(extractor, LogisticRegression()).fit(X, y)
    small = {"num_cpus": 0.1, "concurrency": 1}
    done = to_ray(
        pipe, dataset, column="tensor", output_column="y", method="predict", **small
    )
    for kind, (_, extractor) in kinds.items():
        done = to_ray(
            extractor,
            done,
            column=kind,
            output_column=f"Z_{kind}",
            batch_size=5,
            **small,
        )
    done.write_parquet(str(tmp_path))
    back = ray.data.read_parquet(str(tmp_path)).sort("id")
    schema = dict(zip(back.schema().names, back.schema().types, strict=True))
    for name, kind in zip(before.names, before.types, strict=True):
        assert schema[name] == kind
    rows = back.take_all()
    assert [row["text"] for row in rows] == kinds["text"][0]
    assert [row["y"] for row in rows] == pipe.predict(X).tolist()
    for kind, (X, extractor) in kinds.items():
        expected = extractor.transform(X)
        assert schema[f"Z_{kind}"].shape == expected.shape[1:]  # fixed
        assert_close(np.stack([row[f"Z_{kind}"] for row in rows]), expected)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("model", [Noted, Builder])
def test_the_model_is_loaded_once_by_each_actor(tmp_path, model):
    X, _ = made("tensor")
    extractor = TorchFeatureExtractor(model(tmp_path)).fit(X)
    dataset = as_dataset(N_ROWS, X=list(X))
    done = to_ray(extractor, dataset, column="X", batch_size=1, concurrency=2)
    assert_close(stacked(done, "embedding"), extractor.transform(X))
    pids = loads_in(tmp_path)
    assert len(pids) == len(set(pids)) == 2


@pytest.mark.usefixtures("cluster")
def test_a_killed_actor_changes_nothing(tmp_path):
    X, _ = made("tensor")
    X[7, 0] = 13
    extractor = TorchFeatureExtractor(Killing(tmp_path)).fit(X[:1])
    dataset = as_dataset(8, X=list(X))
    done = to_ray(extractor, dataset, column="X", concurrency=1)
    found = stacked(done, "embedding")
    assert (tmp_path / "killed").exists()
    assert_close(found, extractor.transform(X))


@pytest.mark.usefixtures("cluster")
def test_an_error_of_an_actor_reaches_the_caller():
    X, _ = made("tensor")
    X[13, 0] = 9
    extractor = TorchFeatureExtractor(Failing(5)).fit(X[:1])
    done = to_ray(extractor, as_dataset(2, X=list(X)), column="X", concurrency=1)
    words = r"PartitionError: row \d+ of a batch of \d+ rows \(id=13\) failed: .*boom"
    with pytest.raises(ray.exceptions.RayTaskError, match=words):
        done.take_all()


@pytest.mark.usefixtures("cluster")
def test_weights_lie_in_the_object_store_and_not_in_tasks(monkeypatch):
    torch.manual_seed(0)
    extractor = TorchFeatureExtractor(nn.Linear(4, 1_000_000), pooling="gap")  # 20 MB
    X, _ = made("tensor")
    extractor.fit(X)
    dataset = as_dataset(X=list(X))
    given, put = {}, []
    monkeypatch.setattr(
        ray.data.Dataset,
        "map_batches",
        lambda self, fn, **options: given.update(options),
    )
    monkeypatch.setattr(ray, "put", lambda parcel: put.append(parcel) or "reference")
    to_ray(extractor, dataset, column="X")
    assert len(pickle.dumps(given["fn_constructor_args"])) < 2_000
    assert [parcel.n_bytes > 20_000_000 for parcel in put] == [True]


@pytest.mark.usefixtures("cluster")
def test_options_are_rays(monkeypatch):
    X, extractor = made("tensor")
    given = {}
    monkeypatch.setattr(
        ray.data.Dataset,
        "map_batches",
        lambda self, fn, **options: given.update(options),
    )
    dataset = as_dataset(X=list(X))
    to_ray(
        extractor, dataset, column="X", num_gpus=1, batch_size=64, concurrency=(1, 4)
    )
    assert (given["num_gpus"], given["batch_size"]) == (1, 64)
    assert (given["compute"].min_size, given["compute"].max_size) == (1, 4)
    given.clear()
    to_ray(extractor, dataset, column="X")
    assert "compute" not in given


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"extractor": LogisticRegression()}, TypeError, "`extractor` must be a Torch"),
        (
            {"dataset": [1]},
            TypeError,
            r"`dataset` must be a ray\.data\.Dataset, got list",
        ),
        ({"method": "predict"}, ValueError, "`method` must name .* got 'predict'"),
    ],
    ids=["extractor", "dataset", "method"],
)
def test_what_cannot_be_is_refused(wrong, error, words):
    X, extractor = made("tensor")
    given = {"extractor": extractor, "dataset": as_dataset(X=list(X)), "column": "X"}
    with pytest.raises(error, match=words):
        to_ray(**(given | wrong))


def test_an_old_ray_is_refused(monkeypatch):
    monkeypatch.setattr("sklearn_torch_bridge._packages.version", lambda name: "2.40.0")
    with pytest.raises(ImportError, match=r"needs ray 2\.51 or later, got 2\.40\.0"):
        to_ray(made("tensor")[1], None, column="X")


@pytest.fixture
def sent_bytes(monkeypatch):
    """Count what this process serializes for others, object by object."""
    from ray._private.serialization import SerializationContext

    sizes = []
    serialize = SerializationContext.serialize

    def counting(self, value):
        made = serialize(self, value)
        sizes.append(made.total_bytes)
        return made

    monkeypatch.setattr(SerializationContext, "serialize", counting)
    return sizes


def searched(X, model):
    pipe = make_pipeline(TorchFeatureExtractor(model), LogisticRegression())
    grid = {"logisticregression__C": [0.1, 1, 10]}
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise", n_jobs=2)
    return search.fit(X, np.arange(len(X)) % 2)


@pytest.mark.usefixtures("cluster")
def test_a_search_on_joblibs_backend_sends_no_weights(sent_bytes):
    from ray.util.joblib import register_ray

    register_ray()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 300_000), nn.Linear(300_000, 3))  # 9.6 MB
    X = np.random.default_rng(0).normal(size=(20, 4))
    with joblib.parallel_config(backend="threading"):
        expected = searched(X, model).cv_results_["mean_test_score"]
    with weights_in_file(), joblib.parallel_config(backend="ray"):
        found = searched(X, model).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, expected)
    assert len(sent_bytes) >= 6
    assert max(sent_bytes) <= 1_000_000
