"""An extractor as a folder of plain data, without pickle.

Hides the files of the folder, and how a new one takes the place of an old one.
"""

from sklearn_torch_bridge._storing._save_and_load import read_extractor, write_extractor

__all__ = ["read_extractor", "write_extractor"]
