"""Embed a Ray Dataset, keep its columns, and write it to Parquet.

Two actors load the model once each. On a machine with GPUs, add ``num_gpus=1`` and a
``batch_size``. Takes about twenty seconds, most of them to start Ray and its actors.
"""

# %%
# Ray on this machine, with nothing that listens to others. Elsewhere:
# ray.init(address="auto").
import logging
import os
from tempfile import mkdtemp

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # it listens on 127.0.0.1 alone
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"

import numpy as np
import ray
import torch

from sklearn_torch_bridge import TorchFeatureExtractor
from sklearn_torch_bridge.adapters import to_ray

ray.init(
    num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
)
ray.data.DataContext.get_current().enable_progress_bars = False
logging.getLogger("ray.data").setLevel("ERROR")
assert ray.util.get_node_ip_address() == "127.0.0.1"

# %%
# Images, with a number each.
torch.manual_seed(0)
rng = np.random.default_rng(0)
images = rng.normal(size=(200, 3, 16, 16)).astype(np.float32)
dataset = ray.data.from_items(
    [{"id": n, "image": image} for n, image in enumerate(images)],
    override_num_blocks=8,
)

# %%
# One more column: the pooled output of the model.
model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, kernel_size=3),
    torch.nn.ReLU(),
    torch.nn.Conv2d(8, 16, kernel_size=3),
)
extractor = TorchFeatureExtractor(model).fit(images[:1])
embedded = to_ray(
    extractor, dataset, column="image", concurrency=2, num_cpus=0.5, batch_size=32
)

# %%
# It runs when it is written, and Parquet keeps the vectors' shape.
folder = mkdtemp()
embedded.drop_columns(["image"]).write_parquet(folder)
back = ray.data.read_parquet(folder).sort("id").to_pandas()
Z = np.stack(back["embedding"])
print(f"{len(Z)} vectors of {Z.shape[1]} {Z.dtype} values from {folder}")
assert Z.dtype == np.float32
np.testing.assert_allclose(Z, extractor.transform(images), atol=1e-5)
ray.shutdown()
