"""What is said of a failed batch: its row, submodule, layer, and a way out."""

import numpy as np
import pytest
from torch import nn

from sklearn_torch_bridge import (
    ForwardError,
    OutputError,
    TorchFeatureExtractor,
)
from tests.tiny_models import (
    Failing,
    Returning,
    mlp,
)


@pytest.fixture
def X(rng):
    return rng.normal(size=(10, 4))


def test_a_failing_batch_names_its_row_the_submodule_and_the_layer():
    module = nn.Sequential(nn.Identity(), nn.Sequential(Failing(40)), nn.Identity())
    X = np.arange(64.0)[:, None]
    words = r"failed on row 41, in submodule '1.0' on the way to '2': .*: boom"
    with pytest.raises(ForwardError, match=words) as caught:
        TorchFeatureExtractor(module, layer="2").transform(X)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_integers_for_a_model_of_floats_get_a_hint():
    with pytest.raises(
        ForwardError, match=r"`X` holds torch.int64.*astype\('float32'\)"
    ):
        TorchFeatureExtractor(mlp()).transform([[1, 2, 3, 4]])


def test_errors_in_reading_say_which_layer_and_rows(X):
    module = nn.Sequential(Returning(lambda x: (x, x)), Returning(lambda pair: pair[0]))
    with pytest.raises(OutputError, match="choose one") as caught:
        TorchFeatureExtractor(module, layer="0", batch_size=4).transform(X)
    assert caught.value.__notes__ == ["While reading layer '0' of rows 0 to 3."]
