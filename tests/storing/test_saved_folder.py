"""A folder is whole or not there: replaced in one step, refused where others use it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from sklearn_torch_bridge._storing import _saved_folder
from sklearn_torch_bridge._storing._saved_folder import (
    CONFIG,
    NEXT_CONFIG,
    NEXT_WEIGHTS,
    WEIGHTS,
)
from tests.processes import run_code
from tests.saved_extractors import LOAD, assert_same_values, build, edit, saved
from tests.tiny_models import mlp


def test_a_saved_extractor_is_replaced_and_other_files_stay(folder, X):
    saved(folder)
    (folder / "README").write_text("mine")
    second = saved(folder, mlp(seed=5), layer="act")
    loaded = LOAD(folder, build)
    np.testing.assert_array_equal(loaded.transform(X), second.transform(X))
    names = {path.name for path in folder.iterdir()}
    assert names == {CONFIG, WEIGHTS, "README"}
    saved(folder, "hf:x")
    assert not (folder / WEIGHTS).exists()
    assert LOAD(folder).model == "hf:x"


def test_what_was_changed_may_be_replaced(folder):
    saved(folder)
    edit(folder, new=1)
    saved(folder, mlp(seed=1))
    assert_same_values(LOAD(folder, build).model, mlp(seed=1))


def test_an_empty_folder_is_taken(tmp_path):
    saved(tmp_path)
    assert LOAD(tmp_path, build).model.first.weight.equal(mlp().first.weight)


@pytest.mark.parametrize(
    "files",
    [
        *({"notes.txt": ""}, {WEIGHTS: ""}, {CONFIG: "{}"}, {CONFIG: "not JSON"}),
        *({CONFIG: '{"format": "other"}', WEIGHTS: ""}, {CONFIG: "[]"}),
    ],
    ids=str,
)
def test_a_folder_of_others_is_refused(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="`folder` must be new, empty, or hold an"):
        saved(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(
        ValueError, match=r"`folder` must be a folder, and .* is a file"
    ):
        saved(path)
    assert path.read_text() == "mine"


def test_an_empty_or_a_missing_folder_holds_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="`folder` must hold a saved extractor"):
            LOAD(path)


EDITS = {
    "a parameter": {"parameters": {"batch_size": 1}},
    "the class": {"class": "os.system"},
    "the digest": {"digest": "0" * 128},
    "a key": {"new": 1},
}


@pytest.mark.parametrize("name", EDITS)
def test_edited_settings_are_told(folder, name):
    saved(folder)
    edit(folder, **EDITS[name])
    with pytest.raises(ValueError, match="must be as saved, and was changed"):
        LOAD(folder, mlp)


def test_settings_of_a_later_format_say_what_wrote_them(folder):
    saved(folder)
    edit(folder, format_version=2, versions={"sklearn-torch-bridge": "9.0"})
    with pytest.raises(ValueError, match=r"must be of format 1, got 2, of .*9\.0"):
        LOAD(folder, mlp)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\x00"])
def test_settings_that_are_none_are_told(folder, text):
    saved(folder)
    (folder / CONFIG).write_text(text)
    with pytest.raises(ValueError, match="must hold the settings of an extractor"):
        LOAD(folder, mlp)


def test_everything_is_on_the_disk_before_it_counts(folder, monkeypatch):
    saved(folder)
    events = []
    sync, replace = os.fsync, Path.replace

    def spy(handle):
        number = os.fstat(handle).st_ino
        places = (folder, *folder.iterdir())
        events.extend(p.name for p in places if p.stat().st_ino == number)
        sync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(
        Path,
        "replace",
        lambda p, to: (events.append((p.name, to.name)), replace(p, to)),
    )
    saved(folder, mlp(seed=1))
    assert events == [
        *("saved", NEXT_WEIGHTS, NEXT_CONFIG, "saved", (NEXT_CONFIG, CONFIG), "saved"),
        *((NEXT_WEIGHTS, WEIGHTS), "saved"),
    ]


KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
from safetensors import torch as library
from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge._storing import _saved_folder
from sklearn_torch_bridge._storing import _safetensors

FILES = {_saved_folder.__file__, _safetensors.__file__}

def build(value):
    module = torch.nn.Linear(40, 20)
    torch.nn.init.constant_(module.weight, value)
    torch.nn.init.constant_(module.bias, value)
    return module

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def half_a_file(tensors, path, metadata):
    save(tensors, path, metadata=metadata)
    os.truncate(path, os.path.getsize(path) // 2)
    die()

def trace_lines(last):
    n_lines = 0
    def trace(frame, event, arg):
        nonlocal n_lines
        if frame.f_code.co_filename not in FILES:
            return None
        n_lines += event == "line"
        if n_lines == last:
            die()
        return trace
    return trace

def save_in_child(folder, value, last):
    # Kill the child at the `last`-th line of ours; tell whether it was.
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if last:
        sys.settrace(trace_lines(last))
    else:
        library.save_file = half_a_file
    TorchFeatureExtractor(build(value), batch_size=value).save(folder)
    os._exit(0)

def found(folder):
    if not (folder / "config.json").exists():
        return 0
    extractor = TorchFeatureExtractor.load(folder, lambda: torch.nn.Linear(40, 20))
    values = extractor.model.weight.unique().tolist() + [extractor.model.bias[3].item()]
    assert values == [extractor.batch_size] * 2, values
    return extractor.batch_size

save = library.save_file
torch.set_num_threads(1)
step, outcomes, last, was_killed = int(sys.argv[3]), [], 0, True
while was_killed:
    folder = Path(sys.argv[1], str(last))
    if sys.argv[2] == "old":
        TorchFeatureExtractor(build(1), batch_size=1).save(folder)
    was_killed = save_in_child(folder, 2, last)
    outcomes.append(found(folder))
    save_in_child(folder, 3, 1 + 7 * last % 90)  # killed again, elsewhere
    assert found(folder) in (outcomes[-1], 3)
    TorchFeatureExtractor(build(4), batch_size=4).save(folder)
    assert found(folder) == 4
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    last += step
print(json.dumps(outcomes))
"""


@pytest.mark.faults
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork and SIGKILL")
@pytest.mark.parametrize("before", ["old", "new"])
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_leaves_the_old_or_the_new(tmp_path, without_coverage, before, step):
    """At every `step`-th line of what writes, and in the middle of the weights."""
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), before, str(step)],
        capture_output=True,
        text=True,
        check=False,
        env=without_coverage | {"OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    outcomes = json.loads(run.stdout)
    turn = outcomes.index(2)
    assert outcomes[:turn] == [1 if before == "old" else 0] * turn
    assert outcomes[turn:] == [2] * (len(outcomes) - turn)
    assert turn > 40 / step
    assert len(outcomes) - turn > 20 / step  # killed after the turn, too


FULL = """
import resource, sys
import torch
from sklearn_torch_bridge import TorchFeatureExtractor

TorchFeatureExtractor(torch.nn.Linear(4, 2)).save(sys.argv[2])  # imports all
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), before[1]))
try:
    TorchFeatureExtractor(torch.nn.Linear(40, 20), batch_size=2).save(sys.argv[1])
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)  # the error is written, too
"""


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on files' sizes")
@pytest.mark.parametrize(
    ("before", "limit"), [("old", 0), ("old", 3_000), ("new", 3_000)]
)
def test_a_full_disk_leaves_what_was_there(
    folder, tmp_path, without_coverage, limit, before
):
    if before == "old":
        saved(folder, nn.Linear(40, 20), batch_size=1)
    run = run_code(FULL, folder, tmp_path / "x", limit, env=without_coverage)
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith("OSError")
    assert "File too large" in last
    if before == "old":
        assert LOAD(folder, nn.Linear(40, 20)).batch_size == 1
        assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS}
    else:
        assert not folder.exists()


@pytest.mark.faults
@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write")
def test_a_folder_for_reading_only_is_told(folder):
    saved(folder)
    folder.chmod(0o500)
    with pytest.raises(PermissionError):
        saved(folder, mlp(seed=1))
    folder.chmod(0o700)
    assert LOAD(folder, mlp).model.first.weight.equal(mlp().first.weight)


@pytest.mark.faults
def test_what_safetensors_leaves_when_killed_is_no_obstacle(folder):
    """It writes under a name of its own making, and renames."""
    folder.mkdir()
    (folder / ".tmpA1b2C3").write_bytes(b"half of the weights")
    saved(folder)
    (folder / ".tmpA1b2C3").write_bytes(b"half of the weights")
    saved(folder, mlp(seed=1))
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS}


def refuse(*_, **__):
    raise PermissionError


def test_weights_that_have_no_name_yet_are_not_overwritten(folder, monkeypatch):
    """The first save is killed right after it counts, the next one fails."""
    saved(folder)
    with monkeypatch.context() as patch:
        patch.setattr(_saved_folder, "_finish", lambda _: None)
        second = saved(folder, mlp(seed=1)).model
    assert (folder / NEXT_WEIGHTS).exists()
    assert_same_values(LOAD(folder, build).model, second)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        with pytest.raises(PermissionError):
            saved(folder, mlp(seed=2))
    assert_same_values(LOAD(folder, build).model, second)


def test_a_failed_write_leaves_what_was_there(folder, monkeypatch):
    extractor = saved(folder)
    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(PermissionError):
        saved(folder, mlp(seed=1))
    with pytest.raises(PermissionError):
        saved(folder.with_name("other"))
    monkeypatch.undo()
    assert LOAD(folder, build).model.first.weight.equal(extractor.model.first.weight)
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]
