"""Strings as `model` in searches, pipelines and transformers of columns."""

import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from sklearn_torch_bridge import TorchFeatureExtractor, precompute
from sklearn_torch_bridge.models import _load_model
from sklearn_torch_bridge.models._kept_models import KeptModels
from tests import families

OLD_SKLEARN = parse_version(sklearn.__version__) < parse_version("1.7")


SAME = {"rtol": 0, "atol": 1e-6}


def test_a_search_over_strings_loads_each_once_and_sends_none(
    minilm_path, texts, tmp_path, monkeypatch
):
    """Neither weights nor modules travel: the largest task is a few kilobytes."""
    monkeypatch.setattr(_load_model, "_BY_STRING", KeptModels())
    loads = []
    load = _load_model._load_string
    monkeypatch.setattr(
        _load_model, "_load_string", lambda name: loads.append(name) or load(name)
    )
    families.save(tmp_path, families.TEXTS["bert"][0], families.make_tokenizer())
    strings = [f"hf:{minilm_path}", f"st:{minilm_path}", f"hf:{tmp_path}"]
    X = np.array(texts * 3, dtype=object)
    y = np.arange(len(X)) % 2
    pipe = make_pipeline(TorchFeatureExtractor(strings[0]), LogisticRegression())
    grid = {"torchfeatureextractor__model": strings}
    search = GridSearchCV(pipe, grid, cv=3, refit=False).fit(X, y)
    assert sorted(loads) == sorted(strings)
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()
    assert len(pickle.dumps(search.set_params(estimator=pipe))) < 10_000
    parallel = GridSearchCV(pipe, grid, cv=3, refit=False, n_jobs=2)
    with joblib.parallel_config("loky"):
        parallel.fit(X, y)
    np.testing.assert_allclose(
        parallel.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
    )


def test_precompute_serves_a_search_over_strings(minilm_path, texts, tmp_path):
    extractor = TorchFeatureExtractor(f"hf:{minilm_path}", cache=tmp_path / "e.db")
    pipe = make_pipeline(extractor, LogisticRegression())
    grid = {"torchfeatureextractor__model": [f"hf:{minilm_path}", f"st:{minilm_path}"]}
    search = GridSearchCV(pipe, grid, cv=2)
    done = precompute(search, texts)
    assert (done.n_settings, done.n_passes) == (2, 2)
    assert done.n_run == 2 * len(set(texts))
    assert precompute(search, texts).n_run == 0


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_a_column_of_a_frame(minilm_path, texts, container):
    if container == "polars" and OLD_SKLEARN:
        pytest.skip("scikit-learn 1.6 asks frames for what polars 2 has no more")
    columns = {"review": texts, "stars": np.arange(len(texts)) * 1.0}
    frame = (pd if container == "pandas" else pl).DataFrame(columns)
    extractor = TorchFeatureExtractor(f"st:{minilm_path}")
    expected = extractor.transform(texts)
    by_name = ColumnTransformer(
        [("text", extractor, "review"), ("number", StandardScaler(), ["stars"])]
    )
    by_list = make_column_transformer((extractor, ["review"]))
    Z = by_name.fit_transform(frame)
    np.testing.assert_allclose(Z[:, :384], expected, **SAME)
    assert Z.shape == (len(texts), 385)
    np.testing.assert_allclose(by_list.fit_transform(frame), expected, **SAME)
    with pytest.raises(ValueError, match="must hold str in every row, but row 1"):
        by_list.fit_transform(pd.DataFrame({"review": ["a", None]}))


def test_wrong_columns_are_named(minilm_path, texts):
    extractor = TorchFeatureExtractor(f"hf:{minilm_path}")
    extractor.fit(pd.DataFrame({"review": texts}))
    with pytest.raises(ValueError, match="feature names"):
        extractor.transform(pd.DataFrame({"other": texts}))
    with pytest.raises(ValueError, match="names unseen at fit time:\n- other"):
        extractor.transform(pd.DataFrame({"review": texts, "other": texts}))
