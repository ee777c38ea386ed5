"""``"torchvision:NAME"``: an image model of torchvision without its head.

NAME is a model, for its default weights, or a weights enum such as
``ResNet50_Weights.IMAGENET1K_V2``.
"""

from functools import partial
from typing import Any

from torch import nn

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._media import ImageRows
from sklearn_torch_bridge.models._own_draws import OwnDraws
from sklearn_torch_bridge.models._safe_loading import loading
from sklearn_torch_bridge.models._timm import stack_images

__all__ = ["load_torchvision"]

_UNKNOWN = (AttributeError, KeyError, StopIteration, ValueError)
_BE_KNOWN = (
    "name a model (torchvision.models.list_models()) or its weights "
    "('ResNet18_Weights.IMAGENET1K_V1'). torchvision says"
)
_BE_CACHED = (
    "have its weights in the cache of torch.hub, or be reachable. torchvision says"
)


def load_torchvision(name: str) -> LoadedModel:
    """Load a model with its weights; their transforms prepare the images."""
    model = f"torchvision:{name}"
    models = import_optional("torchvision", purpose=f"`model`={model!r}").models
    with loading(model, must=_BE_KNOWN, errors=_UNKNOWN):
        weights, builder = _find(models, name)
    with loading(model, must=_BE_CACHED), OwnDraws():
        module = builder(weights=weights)
    _remove_head(module)
    prepare = partial(stack_images, weights.transforms())
    _check_takes_images(model, prepare)
    return LoadedModel(module, media=ImageRows(prepare))


def _check_takes_images(model: str, prepare: Any) -> None:
    """Refuse a model of videos, or of pairs of images, whose rows are no images."""
    pillow = import_optional("PIL.Image", purpose="opening images")
    try:
        prepare([pillow.new("RGB", (64, 64))])
    except Exception as error:
        msg = (
            f"`model`={model!r} must take images, and its transforms take none: "
            f"{type(error).__name__}: {error}. Give the module itself, of "
            "torchvision.models.get_model, and rows that its weights' transforms have "
            "prepared, such as arrays (channels, frames, height, width) of videos."
        )
        raise ValueError(msg) from error


def _find(models: Any, name: str) -> tuple[Any, Any]:
    """Return the weights that `name` means, and the builder of their model."""
    if "." not in name:
        return models.get_model_weights(name).DEFAULT, models.get_model_builder(name)
    weights, known = models.get_weight(name), models.get_model_weights
    builders = map(models.get_model_builder, models.list_models())
    return weights, next(one for one in builders if known(one) is type(weights))


def _remove_head(module: nn.Module) -> None:
    """Make a model return the input of its classifier, the last linear layer."""
    parts = module.named_modules()
    linear = [name for name, part in parts if isinstance(part, nn.Linear)]
    if linear:
        parent, _, last = linear[-1].rpartition(".")
        setattr(module.get_submodule(parent), last, nn.Identity())
    else:  # a convolution is the classifier (SqueezeNet)
        module.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
