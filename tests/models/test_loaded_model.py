import pytest
from torch import nn

from sklearn_torch_bridge.models import LoadedModel


@pytest.mark.parametrize(
    ("preprocess", "media", "opens"),
    [(None, list, True), (list, list, False), (list, None, False), (None, None, False)],
    ids=["media", "texts and media", "texts", "neither"],
)
def test_str_are_files_where_only_media_are_taken(preprocess, media, opens):
    loaded = LoadedModel(nn.Identity(), preprocess=preprocess, media=media)
    assert loaded.opens_files == opens
