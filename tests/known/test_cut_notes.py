"""Notes on rows that were cut, there and back."""

import pytest

from sklearn_torch_bridge._known._cut_notes import note_of, read_note
from sklearn_torch_bridge.models import Maximum


@pytest.mark.parametrize("unit", ["tokens", "values"])
@pytest.mark.parametrize(
    "whose", ["tokenizer", "positions", "model", "extractor", "max_length"]
)
def test_a_note_is_read_as_it_was_written(unit, whose):
    maximum = Maximum(256, unit, whose)
    assert read_note(note_of(612, maximum)) == (612, maximum)
    assert note_of(256, maximum) == ""


@pytest.mark.parametrize("note", ["", "612", "612/256", "612/256tz", "a/256tt", "/1tt"])
def test_what_is_no_note_is_not_read(note):
    assert read_note(note) is None
