"""Where results go: one array, or a file that an interrupted run can go on with.

Hides how batches in any order find their rows, how rows are put together from windows,
and how a file tells finished rows.
"""

from sklearn_torch_bridge._results._array_sink import ArraySink
from sklearn_torch_bridge._results._entries_sink import EntriesSink, entries_of
from sklearn_torch_bridge._results._file_sink import FileSink
from sklearn_torch_bridge._results._first_columns import FirstColumns
from sklearn_torch_bridge._results._sink import Sink
from sklearn_torch_bridge._results._spans import Spans
from sklearn_torch_bridge._results._windows_sink import JoinRule, WindowsSink

__all__ = [
    "ArraySink",
    "EntriesSink",
    "FileSink",
    "FirstColumns",
    "JoinRule",
    "Sink",
    "Spans",
    "WindowsSink",
    "entries_of",
]
