"""Extractors on clusters of Dask and Ray (extras ``dask`` and ``ray``).

`to_dask` runs an extractor, or a Pipeline that begins with one, over a Dask collection,
`to_ray` over a Ray Dataset. Scheduling, retry and placement are the engines' own.
`weights_in_file` is for what pickles extractors with each task: searches on joblib's
``dask`` and ``ray`` backends, `dask_ml`.
"""

from sklearn_torch_bridge._packages import set_home
from sklearn_torch_bridge.adapters._dask import to_dask
from sklearn_torch_bridge.adapters._ray import to_ray
from sklearn_torch_bridge.adapters._weights_in_file import weights_in_file

__all__ = ["to_dask", "to_ray", "weights_in_file"]

set_home(globals())
