"""Extractors as folders of JSON and safetensors, without pickle.

Hides the files of a folder, and how new ones take the place of old ones.
"""

from sklearn_torch_bridge._storing._save_and_load import read_extractor, write_extractor

__all__ = ["read_extractor", "write_extractor"]
