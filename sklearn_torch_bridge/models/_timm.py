"""``"timm:NAME_OR_PATH"``: an image model of timm without its head."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.models._hub_files import may_be_read
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._media import ImageRows
from sklearn_torch_bridge.models._missing_weights import loading_report
from sklearn_torch_bridge.models._safe_loading import loading

__all__ = ["load_timm", "stack_images", "timm_files"]


def load_timm(name: str) -> LoadedModel:
    """Load a pretrained model, and the transforms of its evaluation.

    A folder must be one that `timm.models.save_for_hf` has written.
    """
    timm = import_optional("timm", purpose=f"`model`='timm:{name}'")
    full = f"local-dir:{name}" if Path(name).is_dir() else name
    must = (
        "be a folder with a saved model, or the name of a pretrained one that is "
        "cached or can be reached (timm.list_pretrained()). timm says"
    )
    model = f"timm:{name}"
    with loading(model, must=must), loading_report(model) as report:
        module = timm.create_model(full, pretrained=True, num_classes=0)
    config = timm.data.resolve_model_data_config(module)
    transform = timm.data.create_transform(**config, is_training=False)
    mode = "L" if config["input_size"][0] == 1 else "RGB"
    prepare = partial(stack_images, transform)
    media = ImageRows(prepare, mode=mode)
    return LoadedModel(module, media=media, missing=report.finish(module))


def stack_images(transform: Any, images: list[Any]) -> torch.Tensor:
    """Transform each image, and stack the results to a batch."""
    return torch.stack([transform(image) for image in images])


def timm_files(name: str) -> list[Path] | None:
    """List the files of a folder; None for a name, whose files are not known."""
    folder = Path(name)
    if not folder.is_dir():
        return None
    files = (path for path in sorted(folder.iterdir()) if path.is_file())
    return [path for path in files if may_be_read(folder, path.name)]
