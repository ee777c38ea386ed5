"""`TensorToArray` as scikit-learn's contract and its own promises ask."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import sklearn
import torch
from sklearn import set_config
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.fixes import parse_version

from sklearn_torch_bridge import ConversionError, OutputError, TensorToArray, to_numpy

pytestmark = pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")

MORE_CHECKS = [  # those that check_estimator leaves to scikit-learn's own tests
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]


@pytest.fixture(name="X")
def points(rng):
    return torch.from_numpy(rng.normal(size=(40, 3))).float()


@pytest.fixture(name="y")
def labels(X):
    return (X[:, 0] > 0).long().numpy()


class TestContract:
    @parametrize_with_checks(
        [
            TensorToArray(),
            TensorToArray(copy=None),
            TensorToArray(flatten=True, sparse="dense"),
        ]
    )
    def test_the_checks_of_scikit_learn_pass(self, estimator, check):
        check(estimator)

    # Several of them fit on a frame and transform an array, or the other way round.
    @pytest.mark.filterwarnings("ignore:X does not have valid feature names")
    @pytest.mark.filterwarnings("ignore:X has feature names, but TensorToArray was")
    @pytest.mark.parametrize("name", MORE_CHECKS)
    def test_the_checks_that_it_leaves_out_pass(self, name):
        getattr(estimator_checks, name)("TensorToArray", TensorToArray())

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"dtype": "text"}, "`dtype` must be"),
            ({"dtype": "U3"}, "`dtype` must be"),
            ({"copy": "yes"}, "`copy` must be one of True, False, None, got 'yes'"),
            ({"flatten": 3}, "`flatten` must be one of True, False, got 3"),
            (
                {"output": 1.5},
                "`output` must be a key, an attribute, an index, a tuple of these",
            ),
            ({"sparse": "csr"}, "`sparse` must be one of 'keep', 'dense', got 'csr'"),
        ],
    )
    @pytest.mark.parametrize("method", ["fit", "transform", "fit_transform"])
    def test_a_wrong_option_is_an_error_when_it_is_used(
        self, X, params, message, method
    ):
        estimator = TensorToArray(**params)
        with pytest.raises(ValueError, match=message):
            getattr(estimator, method)(X)

    def test_transform_works_before_fit_and_learns_nothing(self, X):
        estimator = TensorToArray()
        before = dict(vars(estimator))
        np.testing.assert_array_equal(estimator.transform(X), X.numpy())
        assert vars(estimator) == before

    def test_a_frame_before_fit_is_no_reason_to_warn(self):
        frame = pd.DataFrame({"a": [1.0], "b": [2.0]})
        assert TensorToArray().transform(frame).tolist() == [[1, 2]]

    def test_clones_and_pickles_give_the_same(self, X):
        fitted = TensorToArray(dtype="float64").fit(X)
        again = pickle.loads(pickle.dumps(fitted))  # noqa: S301 - just made
        np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
        assert again.inverse_transform(X).dtype is torch.float32
        assert clone(fitted).get_params() == fitted.get_params()


class TestTransform:
    @pytest.mark.parametrize(
        "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64]
    )
    def test_gradients_and_half_types_come_through(self, X, dtype):
        tensor = X.to(dtype).requires_grad_()
        array = TensorToArray().fit_transform(tensor)
        wide = np.float64 if dtype is torch.float64 else np.float32
        assert array.dtype == wide
        assert array.tolist() == tensor.tolist()

    @pytest.mark.parametrize(
        "wrap",
        [
            list,
            tuple,
            lambda rows: pd.Series(list(rows)),
            lambda rows: pl.Series(values=list(rows), dtype=pl.Object),
            lambda rows: pd.DataFrame({"embedding": list(rows)}),
            lambda rows: rows.numpy(),
            lambda rows: rows.tolist(),
            lambda rows: pd.DataFrame(rows.numpy()),
            lambda rows: pl.DataFrame(rows.numpy()),
        ],
        ids=[
            *("list", "tuple", "pandas Series", "polars Series", "column of tensors"),
            *("array", "numbers", "pandas", "polars"),
        ],
    )
    def test_containers_give_one_row_per_sample(self, X, wrap):
        np.testing.assert_array_equal(TensorToArray().fit_transform(wrap(X)), X.numpy())

    def test_a_list_of_images_is_rows(self):
        images = [torch.full((1, 2, 2), float(i)) for i in range(3)]
        assert TensorToArray().fit_transform(images).shape == (3, 1, 2, 2)
        assert TensorToArray(flatten=True).fit_transform(images).shape == (3, 4)

    def test_ragged_rows_are_an_error_that_names_the_row(self):
        with pytest.raises(ValueError, match=r"row 1 has \(3,\)"):
            TensorToArray().fit([torch.ones(2), torch.ones(3)])

    def test_flatten_keeps_the_order_of_the_values(self):
        X = torch.arange(24.0).reshape(2, 3, 4)
        array = TensorToArray(flatten=True).fit_transform(X)
        assert array.tolist() == [list(range(12)), list(range(12, 24))]

    def test_flatten_of_no_rows_keeps_the_width(self):
        flat = TensorToArray(flatten=True)
        assert flat.transform(torch.ones(0, 3, 4)).shape == (0, 12)

    def test_one_axis_is_an_error_that_says_to_reshape(self):
        with pytest.raises(ValueError, match="Reshape your data"):
            TensorToArray().fit(torch.ones(3))

    def test_output_picks_the_field(self, X):
        array = TensorToArray(output="logits").fit_transform(
            {"logits": X, "loss": X[0]}
        )
        np.testing.assert_array_equal(array, X.numpy())
        with pytest.raises(OutputError, match="choose one of them"):
            TensorToArray().fit({"logits": X, "loss": X[0]})

    def test_nan_passes_for_an_imputer(self):
        array = TensorToArray().fit_transform(torch.tensor([[float("nan")], [1.0]]))
        assert np.isnan(array[0, 0])

    def test_complex_values_come_only_by_name(self, X):
        tensor = torch.complex(X, X)
        with pytest.raises(ConversionError, match="ask for dtype='complex64'"):
            TensorToArray().fit(tensor)
        named = TensorToArray(dtype="complex64").fit(tensor)
        np.testing.assert_array_equal(named.transform(tensor), tensor.numpy())
        assert torch.equal(named.inverse_transform(named.transform(tensor)), tensor)

    @pytest.mark.parametrize("width", [2, 4])
    def test_another_width_than_in_fit_is_an_error(self, X, width):
        with pytest.raises(
            ValueError, match="features, but TensorToArray is expecting 3"
        ):
            TensorToArray().fit(X).transform(torch.ones(5, width))

    def test_another_row_shape_than_in_fit_is_an_error(self):
        fitted = TensorToArray(flatten=True).fit(np.ones((2, 3, 4)))
        with pytest.raises(ValueError, match="`X` must give 12 columns as in fit"):
            fitted.transform(np.ones((2, 3, 5)))

    def test_refitting_on_images_forgets_the_columns(self, X):
        estimator = TensorToArray().fit(X)
        assert estimator.n_features_in_ == 3
        estimator.fit(torch.ones(2, 3, 4))
        assert not hasattr(estimator, "n_features_in_")

    def test_writing_to_a_result_leaves_the_input_alone(self, X):
        before = X.clone()
        for given in (X, X.numpy(), list(X), pd.DataFrame(X.numpy(), copy=False)):
            TensorToArray().fit_transform(given)[...] = 7
        assert torch.equal(X, before)

    def test_copy_none_shares_read_only(self, X):
        array = TensorToArray(copy=None).fit_transform(X)
        assert np.shares_memory(array, X.numpy())
        assert not array.flags.writeable

    @pytest.mark.parametrize("make", [list, torch.Tensor.half])
    def test_copy_false_raises_where_sharing_is_impossible(self, X, make):
        with pytest.raises(ValueError, match="`copy` must be True or None"):
            TensorToArray(copy=False).fit(make(X))


class TestSparse:
    @pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
    @pytest.mark.parametrize(
        "model",
        [LinearSVC(), SGDClassifier(), KMeans(n_clusters=2, n_init=1)],
        ids=lambda model: type(model).__name__,
    )
    def test_sparse_output_trains(self, X, y, layout, model):
        sparse = getattr(X.relu(), layout)()
        pipe = make_pipeline(TensorToArray(), clone(model).set_params(random_state=0))
        labels = pipe.fit(sparse, y).predict(sparse)
        dense = make_pipeline(TensorToArray(sparse="dense"), pipe[-1])
        np.testing.assert_array_equal(dense.predict(sparse), labels)

    def test_keep_and_dense_hold_the_same_values(self, X):
        sparse = X.relu().to_sparse()
        kept = TensorToArray().fit_transform(sparse)
        dense = TensorToArray(sparse="dense").fit_transform(sparse)
        assert sp.issparse(kept)
        assert dense.flags.c_contiguous
        np.testing.assert_array_equal(kept.toarray(), dense)
        np.testing.assert_array_equal(dense, X.relu().numpy())

    def test_sparse_goes_back_to_a_sparse_tensor(self, X):
        sparse = X.relu().to_sparse()
        estimator = TensorToArray().fit(sparse)
        back = estimator.inverse_transform(estimator.transform(sparse))
        assert back.layout is torch.sparse_coo
        assert torch.equal(back.to_dense(), X.relu())

    def test_dense_from_sparse_is_never_shared(self, X):
        with pytest.raises(ValueError, match="`copy` must be True or None"):
            TensorToArray(sparse="dense", copy=False).fit(X.to_sparse())


class TestInverse:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
    def test_it_gives_back_the_dtype_that_fit_saw(self, X, dtype):
        tensor = X.to(dtype)
        estimator = TensorToArray().fit(tensor)
        back = estimator.inverse_transform(estimator.transform(tensor))
        assert back.dtype is dtype
        assert torch.equal(back, tensor)

    @pytest.mark.parametrize("given", [np.ones((2, 3)), [[1, 2, 3]]])
    def test_it_gives_float32_on_the_cpu_without_tensors(self, given):
        for estimator in (TensorToArray(), TensorToArray().fit(given)):
            back = estimator.inverse_transform(given)
            assert back.dtype is torch.float32
            assert back.device.type == "cpu"
            assert back.tolist() == np.asarray(given).tolist()

    def test_it_unflattens(self):
        X = torch.arange(24.0).reshape(2, 3, 4)
        flat = TensorToArray(flatten=True).fit(X)
        assert torch.equal(flat.inverse_transform(flat.transform(X)), X)

    def test_integers_that_became_fractions_are_an_error(self):
        estimator = TensorToArray().fit(torch.tensor([[1, 2]]))
        with pytest.raises(ValueError, match="has a fraction"):
            estimator.inverse_transform([[0.5, 1]])

    def test_a_value_too_large_for_the_dtype_is_an_error(self):
        estimator = TensorToArray().fit(torch.ones(1, 1))
        with pytest.raises(ValueError, match="would overflow"):
            estimator.inverse_transform([[1e300]])

    def test_another_width_is_an_error(self, X):
        with pytest.raises(ValueError, match="`X` must give 3 columns"):
            TensorToArray().fit(X).inverse_transform(np.ones((2, 4)))

    def test_the_result_owns_its_memory(self):
        array = np.ones((2, 3), np.float32)
        TensorToArray().inverse_transform(array).zero_()
        assert (array == 1).all()


class TestNames:
    def test_columns_of_a_frame_keep_their_names(self):
        frame = pd.DataFrame({"a": [1.0], "b": [2.0]})
        estimator = TensorToArray().set_output(transform="pandas")
        pd.testing.assert_frame_equal(estimator.fit_transform(frame), frame)

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_columns_of_a_tensor_are_numbered(self, X, library):
        estimator = TensorToArray().set_output(transform=library)
        names = [f"tensortoarray{i}" for i in range(3)]
        assert list(estimator.fit_transform(X).columns) == names

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_frames_come_out_before_fit(self, X, library):
        estimator = TensorToArray().set_output(transform=library)
        np.testing.assert_array_equal(estimator.transform(X).to_numpy(), X.numpy())

    def test_flattened_columns_are_numbered(self):
        flat = TensorToArray(flatten=True).fit(torch.ones(2, 2, 2))
        assert len(flat.get_feature_names_out()) == 4

    def test_there_are_no_names_before_fit(self):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            TensorToArray().get_feature_names_out()

    def test_rows_of_several_axes_have_no_names(self):
        estimator = TensorToArray().fit(torch.ones(2, 3, 4))
        with pytest.raises(AttributeError, match="Use flatten=True"):
            estimator.get_feature_names_out()


class TestPipelines:
    def test_a_float32_tensor_stays_float32_through_a_scaler(self, X):
        pipe = make_pipeline(TensorToArray(), StandardScaler(), PCA(2))
        assert pipe.fit_transform(X).dtype == np.float32
        assert pipe[1].transform(pipe[0].transform(X)).dtype == np.float32

    def test_it_stands_between_torch_steps_and_scikit_learn_steps(self, X, y):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 4)
        pipe = make_pipeline(
            FunctionTransformer(model),
            TensorToArray(),
            StandardScaler(),
            FunctionTransformer(torch.from_numpy),
            FunctionTransformer(torch.tanh),
            TensorToArray(),
            LogisticRegression(),
        )
        before = model.weight.clone()
        assert pipe.fit(X, y).score(X, y) > 0.8
        assert torch.equal(model.weight, before)

    def test_a_pipeline_goes_back_to_tensors(self, X):
        pipe = make_pipeline(TensorToArray(), StandardScaler())
        back = pipe.inverse_transform(pipe.fit_transform(X))
        assert back.dtype is torch.float32
        # one step there and one back in float32
        torch.testing.assert_close(back, X, rtol=1e-5, atol=1e-6)

    @pytest.mark.skipif(
        parse_version(sklearn.__version__) < parse_version("1.7"),
        reason="a search of scikit-learn 1.6 asks NumPy for the device of a tensor",
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_a_search_takes_a_tensor(self, X, y, dtype):
        pipe = make_pipeline(TensorToArray(), StandardScaler(), LogisticRegression())
        grid = {
            "logisticregression__C": [0.1, 1.0],
            "tensortoarray__copy": [True, None],
        }
        search = GridSearchCV(pipe, grid, cv=2, error_score="raise")
        search.fit(X.to(dtype).requires_grad_(), y)
        arrays = cross_val_score(
            search.best_estimator_, X.detach().to(dtype).float().numpy(), y, cv=2
        )
        assert search.best_score_ == pytest.approx(arrays.mean())

    def test_it_joins_a_feature_union(self, X):
        union = FeatureUnion([("a", TensorToArray()), ("b", TensorToArray())])
        assert union.fit_transform(X).shape == (40, 6)
        assert union.get_feature_names_out()[0] == "a__tensortoarray0"

    def test_a_global_pandas_output_is_respected(self, X):
        set_config(transform_output="pandas")
        try:
            frame = TensorToArray().fit_transform(X)
        finally:
            set_config(transform_output="default")
        assert isinstance(frame, pd.DataFrame)


def test_a_mask_is_not_lost():
    X = np.ma.masked_array(np.ones((2, 2)), mask=np.eye(2))
    with pytest.raises(ConversionError, match="Its mask would be lost"):
        TensorToArray().fit_transform(X)


def test_a_frame_has_two_axes():
    step = TensorToArray().set_output(transform="pandas")
    X = torch.ones(2, 3, 4)
    with pytest.raises(ValueError, match=r"`flatten` must be True .*shape \(3, 4\)"):
        step.fit_transform(X)
    assert step.set_params(flatten=True).fit_transform(X).shape == (2, 12)


@pytest.mark.parametrize(
    "dtype",
    [
        *(None, "float32", "float64", "float16", "int64", "uint8", "bool"),
        *(np.float32, np.dtype("i2"), float, ">f4", "complex64", "no dtype"),
    ],
    ids=str,
)
def test_the_tag_of_dtypes_that_stay_follows_the_parameter(dtype):
    step = TensorToArray(dtype=dtype)
    preserved = get_tags(step).transformer_tags.preserves_dtype
    if dtype is None:
        assert preserved == ["float64", "float32"]
    elif dtype in ("complex64", "no dtype", ">f4"):
        assert preserved == []
    else:
        assert preserved == [np.dtype(dtype).name]
    estimator_checks.check_transformer_preserve_dtypes("TensorToArray", step)


BATCHES = [torch.ones(3, 2), torch.ones(3, 2)]


@pytest.mark.parametrize(
    "convert",
    [
        lambda: TensorToArray().fit_transform([*BATCHES, torch.ones(1, 2)]),
        lambda: TensorToArray().fit_transform([np.ones((3, 2)), np.ones((1, 2))]),
        lambda: TensorToArray().fit(torch.ones(1, 2)).transform(BATCHES),
        lambda: TensorToArray().set_output(transform="pandas").fit_transform(BATCHES),
    ],
    ids=["uneven", "arrays", "after fit", "frame"],
)
def test_to_numpy_is_named_for_a_list_of_batches(convert):
    with pytest.raises(ValueError, match=r"batch.*`to_numpy` joins|`to_numpy` joins b"):
        convert()


@pytest.mark.parametrize(
    "dress",
    [
        lambda one: one,
        lambda one: [one],
        lambda one: [[one]],
        lambda one: [{"a": one}],
        lambda one: pd.Series([one]),
    ],
    ids=["tensor", "rows", "lists", "mappings", "series"],
)
@pytest.mark.parametrize("convert", [to_numpy, TensorToArray().fit_transform])
def test_a_meta_tensor_is_called_so_in_every_container(convert, dress):
    with pytest.raises(ConversionError, match=r"\bmeta\b"):
        convert(dress(torch.ones(2, 2, device="meta")))
