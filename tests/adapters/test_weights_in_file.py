import pickle
import threading

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_torch_bridge import TorchFeatureExtractor, share
from sklearn_torch_bridge.adapters import weights_in_file
from tests.worker_models import Noted


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Linear(700, 700)


def loaded(data):
    return pickle.loads(data)  # noqa: S301 - our own bytes


def test_pickles_of_a_block_hold_no_weights(model, tmp_path, rng):
    X = rng.normal(size=(3, 700))
    extractor = TorchFeatureExtractor(model)
    with weights_in_file(tmp_path):
        datas = [pickle.dumps(extractor), pickle.dumps(share(model))]
        assert max(map(len, datas)) < 3_000
        (folder,) = tmp_path.iterdir()
        assert len([*folder.iterdir()]) == 1  # one file for both
        same, handle = map(loaded, datas)
        np.testing.assert_array_equal(same.transform(X), extractor.transform(X))
        assert torch.equal(handle.module.weight, model.weight)
    assert [*tmp_path.iterdir()] == []
    assert len(pickle.dumps(extractor)) > model.weight.nbytes


def test_it_holds_for_every_thread(model):
    """Engines pickle in threads of their own."""
    sizes = []
    with weights_in_file():
        thread = threading.Thread(
            target=lambda: sizes.append(len(pickle.dumps(TorchFeatureExtractor(model))))
        )
        thread.start()
        thread.join()
    assert sizes[0] < 3_000


def test_a_model_is_opened_once_in_a_process(tmp_path):
    extractor = TorchFeatureExtractor(Noted(tmp_path))
    with weights_in_file():
        datas = [pickle.dumps(extractor) for _ in range(3)]
        models = [loaded(data).model for data in datas]
    assert models[0] is models[1] is models[2] is not extractor.model
    assert len((tmp_path / "loads").read_text().split()) == 1


def test_an_edited_model_is_written_again(model):
    extractor = TorchFeatureExtractor(model)
    with weights_in_file():
        before = pickle.dumps(extractor)
        with torch.no_grad():
            model.weight.zero_()
        after = pickle.dumps(extractor)
        assert not loaded(after).model.weight.any()
        assert loaded(before).model.weight.any()


def test_a_pickle_that_outlives_its_block_says_so(tmp_path):
    extractor = TorchFeatureExtractor(Noted(tmp_path, n_hidden=700))
    with weights_in_file():
        data = pickle.dumps(extractor)
    with pytest.raises(FileNotFoundError, match="is gone when its block ends"):
        loaded(data)


def test_the_folder_goes_when_the_block_fails(model, tmp_path):
    with pytest.raises(KeyError), weights_in_file(tmp_path):  # noqa: PT012 - what it is about
        pickle.dumps(TorchFeatureExtractor(model))
        raise KeyError
    assert [*tmp_path.iterdir()] == []
    assert len(pickle.dumps(TorchFeatureExtractor(model))) > model.weight.nbytes
