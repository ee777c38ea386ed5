from pathlib import Path

import pytest
import transformers

from sklearn_torch_bridge.models._hub_files import (
    find_folder,
    loading_from_hub,
    tree_of_files,
)


def test_files_of_inner_folders_count_but_those_of_other_libraries(tmp_path):
    read = ["1_Pooling/config.json", "modules.json"]
    for name in (*read, "README.md", "onnx/model.bin", ".git/config", "2/model.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in tree_of_files(tmp_path)]
    assert sorted(found) == read


def test_a_folder_needs_no_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert find_folder(str(tmp_path), "config.json", prefix="hf") == tmp_path


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars_are_as_before_also_after_a_failure(shown, monkeypatch):
    logging = transformers.utils.logging
    monkeypatch.setattr(logging, "_tqdm_active", shown)

    def load():
        with loading_from_hub("hf:x", library="transformers"):
            assert not logging.is_progress_bar_enabled()
            Path("gone").read_text()

    with pytest.raises(ValueError, match=r"'hf:x' must .* transformers says: .*gone"):
        load()
    assert logging.is_progress_bar_enabled() == shown
