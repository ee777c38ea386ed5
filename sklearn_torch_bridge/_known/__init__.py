"""Which rows are known already: fingerprints of models and settings, cached rows.

Hides what identifies a model (its files, or its weights and code), which settings
count, and how rows are looked up in a cache and stored in it.
"""

from sklearn_torch_bridge._known._cut_notes import (
    limit_of,
    note_of,
    read_limit,
    read_note,
)
from sklearn_torch_bridge._known._model_fingerprint import (
    fingerprint_model,
    fingerprint_module,
    is_received,
    known_fingerprint,
    known_told,
    remember_fingerprint,
    told_of_model,
)
from sklearn_torch_bridge._known._recall import Recall, RememberingSink, cache_at
from sklearn_torch_bridge._known._row_contents import RowContents
from sklearn_torch_bridge._known._settings_fingerprint import settings_fingerprint
from sklearn_torch_bridge._known._steady_sink import Steadiness, SteadySink

__all__ = [
    "Recall",
    "RememberingSink",
    "RowContents",
    "Steadiness",
    "SteadySink",
    "cache_at",
    "fingerprint_model",
    "fingerprint_module",
    "is_received",
    "known_fingerprint",
    "known_told",
    "limit_of",
    "note_of",
    "read_limit",
    "read_note",
    "remember_fingerprint",
    "settings_fingerprint",
    "told_of_model",
]
