"""Past one machine: extractors on Dask (extra ``dask``).

`to_dask` runs an extractor, or a Pipeline that begins with one, over the partitions of
a Dask collection. `weights_in_file` is for what pickles extractors with each task.
"""

from sklearn_torch_bridge.adapters._dask import to_dask
from sklearn_torch_bridge.adapters._weights_in_file import weights_in_file

__all__ = ["to_dask", "weights_in_file"]
