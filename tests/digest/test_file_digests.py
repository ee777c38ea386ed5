"""Fingerprints of files, by their names and contents."""

import json
import os

import pytest

from sklearn_torch_bridge._digest import _file_digests, fingerprint_files
from sklearn_torch_bridge.models._hugging_face import hf_files


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_files_count_by_name_and_content_not_by_folder(tmp_path):
    one = write(tmp_path / "one", a="1", b="2")
    same = write(tmp_path / "deeper" / "two", a="1", b="2")
    swapped = write(tmp_path / "three", a="2", b="1")
    renamed = write(tmp_path / "four", a="1", c="2")
    joined = write(tmp_path / "five", a="12", b="")
    fewer = write(tmp_path / "six", a="1")
    folders = (one, swapped, renamed, joined, fewer)
    found = {fingerprint_files(folder.iterdir()) for folder in folders}
    assert len(found) == len(folders)
    assert fingerprint_files([same / "b", str(same / "a")]) in found
    assert fingerprint_files([one / "a", one / "b", one / "a"]) in found


def test_files_in_folders_count_with_these(tmp_path):
    write(tmp_path / "x", config="1")
    write(tmp_path / "y", config="2")
    before = fingerprint_files(tmp_path.rglob("config"))
    write(tmp_path / "x", config="2")
    write(tmp_path / "y", config="1")
    assert fingerprint_files(tmp_path.rglob("config")) != before


def test_no_files_are_an_error():
    with pytest.raises(ValueError, match="must name at least one file"):
        fingerprint_files([])


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    reads = []
    original = _file_digests.new_hash
    monkeypatch.setattr(
        _file_digests, "new_hash", lambda: reads.append(1) or original()
    )
    monkeypatch.setattr(_file_digests, "_SETTLED_NS", -(2**62))
    path = write(tmp_path, a="1") / "a"
    first = fingerprint_files([path])
    assert fingerprint_files([path]) == first
    assert len(reads) == 1
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_text("2")
    os.utime(path, ns=times)  # the time of change cannot be turned back
    assert fingerprint_files([path]) != first


def test_a_file_that_has_just_changed_is_read_again(tmp_path):
    """Two changes within one tick of the clock of the file system look like one."""
    path = write(tmp_path, a="1") / "a"
    fingerprint_files([path])
    assert str(path) not in {path for path, *_ in _file_digests._KNOWN}


def test_the_files_of_a_model_are_those_that_are_read(tmp_path, minilm_path):
    files = dict.fromkeys(
        ["config__json", "model__safetensors", "pytorch_model__bin", "tf_model__h5"], ""
    )
    files |= dict.fromkeys(["tokenizer__json", "vocab__txt", "README__md", "__git"], "")
    folder = write(tmp_path / "model", **files)
    (folder / "onnx").mkdir()
    names = [path.name for path in hf_files(str(folder))]
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
    (folder / "model.safetensors").unlink()
    assert "pytorch_model.bin" in [path.name for path in hf_files(str(folder))]
    assert fingerprint_files(hf_files(minilm_path)) == fingerprint_files(
        hf_files(minilm_path)
    )


def test_an_adapter_brings_the_files_of_its_base(tmp_path):
    base = write(tmp_path / "base", config__json="{}")
    config = json.dumps({"base_model_name_or_path": str(base)})
    adapter = write(tmp_path / "adapter", adapter_config__json=config)
    before = fingerprint_files(hf_files(str(adapter)))
    write(base, config__json='{"a": 1}')
    assert fingerprint_files(hf_files(str(adapter))) != before


def test_models_of_the_hub_are_found_in_its_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"'hf:some/model' is neither a folder"):
        hf_files("some/model")
    repository = tmp_path / "models--some--model"
    commit = "0" * 40
    write(repository / "refs", main=commit)
    write(repository / "snapshots" / commit, config__json="{}", vocab__txt="a")
    assert [path.name for path in hf_files("some/model")] == [
        "config.json",
        "vocab.txt",
    ]
