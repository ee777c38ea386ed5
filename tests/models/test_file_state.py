"""Files are seen to change, whatever changes about them."""

import os
import shutil

import pytest

from sklearn_torch_bridge.models import _file_state
from sklearn_torch_bridge.models._file_state import FileState


def listed(folder):
    return lambda: sorted(path for path in folder.iterdir() if path.is_file())


def rewrite(path):
    path.write_text("12")


def rewrite_unseen(path):
    """As within one tick of the clock: size and times stay."""
    state = path.stat()
    path.write_text("3")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def replace(path):
    other = path.with_name("other")
    other.write_text("2")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def retarget(path):
    path.unlink()
    path.symlink_to(path.parent / "inner" / "second")


CHANGES = {
    "rewritten": lambda folder: rewrite(folder / "a"),
    "rewritten with size and times": lambda folder: rewrite_unseen(folder / "a"),
    "replaced with size and times": lambda folder: replace(folder / "a"),
    "a link goes elsewhere": lambda folder: retarget(folder / "link"),
    "behind a link": lambda folder: rewrite(folder / "inner" / "first"),
    "added": lambda folder: rewrite(folder / "new"),
    "removed": lambda folder: (folder / "a").unlink(),
    "all removed": shutil.rmtree,
}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "model"
    (place / "inner").mkdir(parents=True)
    (place / "a").write_text("1")
    for number, name in enumerate(("first", "second")):
        (place / "inner" / name).write_text(str(number))
    (place / "link").symlink_to(place / "inner" / "first")
    return place


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(folder, name):
    state = FileState(listed(folder))
    assert state.is_current()
    CHANGES[name](folder)
    assert not state.is_current()


def test_of_a_file_just_written_the_content_counts(folder, monkeypatch):
    """Its times may be those of the next change too."""
    monkeypatch.setattr(_file_state, "_stat", lambda _: (2**62, 2**62))
    state = FileState(listed(folder))
    assert state.is_current()
    (folder / "a").write_text("2")
    assert not state.is_current()


@pytest.mark.parametrize("name", ["rewritten", "removed", "all removed"])
def test_a_change_between_two_looks_is_seen(folder, name):
    before = FileState(listed(folder))
    assert not before.changed_until(FileState(listed(folder)))
    CHANGES[name](folder)
    assert before.changed_until(FileState(listed(folder)))


def test_what_comes_beside_is_no_change_between_two_looks(folder):
    """Of a model of the hub, more arrives as it is loaded."""
    before = FileState(listed(folder))
    CHANGES["added"](folder)
    assert not before.changed_until(FileState(listed(folder)))


def test_files_that_are_not_there_or_not_known_stay_as_they_are(tmp_path):
    assert FileState(lambda: None).is_current()
    assert FileState(listed(tmp_path / "none")).is_current()
