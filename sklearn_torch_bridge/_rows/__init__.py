"""What `X` is: rows of some kind, checked, then turned into batches for a model.

Hides which kinds of rows there are: each is one file, and `_kinds.py` has their table.
"""

from sklearn_torch_bridge._rows._base import (
    CheckedRows,
    Feed,
    FeedError,
    Receiver,
    SubsetFeed,
)
from sklearn_torch_bridge._rows._entry_faults import is_missing
from sklearn_torch_bridge._rows._kinds import (
    check_rows,
    check_takes_prompt,
    made_up_rows,
    make_feed,
)

__all__ = [
    "CheckedRows",
    "Feed",
    "FeedError",
    "Receiver",
    "SubsetFeed",
    "check_rows",
    "check_takes_prompt",
    "is_missing",
    "made_up_rows",
    "make_feed",
]
