"""What errors of SQLite mean."""

import pytest

from sklearn_torch_bridge.cache import (
    _sqlite_errors,
)

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    "error",
    [MemoryError("so much"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "so odd")],
    ids=["size", "text"],
)
def test_what_a_damaged_file_brings_python_to_say_is_explained(error):
    assert _sqlite_errors.explain(error).endswith(
        "process uses it; it will be made anew."
    )
