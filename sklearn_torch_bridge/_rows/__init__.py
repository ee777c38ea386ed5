"""What `X` is: rows of some kind, checked, and turned into batches of a model.

Hides the kinds of rows there are.
"""

from sklearn_torch_bridge._rows._checked_rows import CheckedRows, check_rows
from sklearn_torch_bridge._rows._feeds import made_up, make_feed
from sklearn_torch_bridge._rows._inputs import is_missing

__all__ = ["CheckedRows", "check_rows", "is_missing", "made_up", "make_feed"]
