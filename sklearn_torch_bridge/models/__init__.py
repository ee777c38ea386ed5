"""What the parameter `model` may be: one small file a library, and a registry.

``models.register`` adds a prefix for strings of your own.
"""

from sklearn_torch_bridge.models._loaded import LoadedModel
from sklearn_torch_bridge.models._registry import register

__all__ = ["LoadedModel", "register"]
