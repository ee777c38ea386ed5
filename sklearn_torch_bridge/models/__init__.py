"""What the parameter `model` may be: one small file a library, and a registry.

``models.register`` adds a prefix for strings of your own.
"""

from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._only_reads import only_reads as only_reads
from sklearn_torch_bridge.models._processors import (
    is_media_processor as is_media_processor,
)
from sklearn_torch_bridge.models._processors import media_of as media_of
from sklearn_torch_bridge.models._processors import text_part as text_part
from sklearn_torch_bridge.models._registry import files_of as files_of
from sklearn_torch_bridge.models._registry import is_loaded as is_loaded
from sklearn_torch_bridge.models._registry import load_model as load_model
from sklearn_torch_bridge.models._registry import (
    may_bring_preprocess as may_bring_preprocess,
)
from sklearn_torch_bridge.models._registry import opens_files as opens_files
from sklearn_torch_bridge.models._registry import register

__all__ = ["LoadedModel", "register"]
