"""Which rows are known already: fingerprints of models and settings, and recall.

Hides what a model is told apart by (files, weights, code), which settings count, and
how keys are looked up in a cache and filled in.
"""

from sklearn_torch_bridge._known._model_fingerprint import (
    fingerprint_model,
    remember_fingerprint,
    told_fingerprint,
)
from sklearn_torch_bridge._known._recall import Recall, cache_at
from sklearn_torch_bridge._known._remembering_sink import RememberingSink
from sklearn_torch_bridge._known._settings_fingerprint import (
    fingerprint_module,
    settings_fingerprint,
)

__all__ = [
    "Recall",
    "RememberingSink",
    "cache_at",
    "fingerprint_model",
    "fingerprint_module",
    "remember_fingerprint",
    "settings_fingerprint",
    "told_fingerprint",
]
