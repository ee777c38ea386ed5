"""``"torchvision:NAME"``: an image model of torchvision without its head.

NAME is a model, for its default weights, or a weights enum such as
``ResNet50_Weights.IMAGENET1K_V2``.
"""

from functools import partial
from typing import Any

from torch import nn

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.models._hub_files import weights_only
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._media import ImageRows
from sklearn_torch_bridge.models._timm import stack_images

__all__ = ["load_torchvision"]


def load_torchvision(name: str) -> LoadedModel:
    """Load a model with its weights; their transforms prepare the images."""
    models = import_optional("torchvision", purpose=f"`model`='torchvision:{name}'")
    models = models.models
    weights, builder = _find(models, name)
    try:
        with weights_only():
            module = builder(weights=weights)
    except Exception as error:  # of the network, of files
        msg = (
            f"`model`='torchvision:{name}' must have its weights in the cache of "
            f"torch.hub, or be reachable. torchvision says: {error}"
        )
        raise ValueError(msg) from error
    _take_off_head(module)
    prepare = partial(stack_images, weights.transforms())
    return LoadedModel(module, media=ImageRows(prepare))


def _find(models: Any, name: str) -> tuple[Any, Any]:
    """Give the weights that are meant, and what builds the model for them."""
    try:
        if "." in name:
            weights = models.get_weight(name)
            builders = map(models.get_model_builder, models.list_models())
            return weights, next(
                one
                for one in builders
                if models.get_model_weights(one) is type(weights)
            )
        return models.get_model_weights(name).DEFAULT, models.get_model_builder(name)
    except (AttributeError, KeyError, StopIteration, ValueError) as error:
        msg = (
            f"`model`='torchvision:{name}' must name a model "
            "(torchvision.models.list_models()) or its weights "
            "('ResNet18_Weights.IMAGENET1K_V1')."
        )
        raise ValueError(msg) from error


def _take_off_head(module: nn.Module) -> None:
    """Hand on what the last linear layer, which names classes, would get."""
    linear = [
        name for name, part in module.named_modules() if isinstance(part, nn.Linear)
    ]
    if linear:
        parent, _, last = linear[-1].rpartition(".")
        setattr(module.get_submodule(parent), last, nn.Identity())
    else:  # classes come from a convolution (SqueezeNet)
        module.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
