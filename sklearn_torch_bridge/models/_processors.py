"""Processors of transformers, given as `preprocess` or found beside a model."""

from functools import partial
from typing import Any

from torch import nn

from sklearn_torch_bridge.models._accepted_inputs import AcceptedInputs
from sklearn_torch_bridge.models._media import ImageRows, SoundRows

__all__ = ["is_media_processor", "media_of", "text_part"]

_IMAGES = "ImageProcessingMixin"
_SOUND = "FeatureExtractionMixin"
_SEVERAL = "ProcessorMixin"


def is_media_processor(preprocess: Any) -> bool:
    """Check for an image processor or feature extractor, which takes no texts."""
    return _is(preprocess, _IMAGES) or _is(preprocess, _SOUND)


def text_part(preprocess: Any) -> Any:
    """Return what takes texts: the tokenizer of a processor of several kinds."""
    if not _is(preprocess, _SEVERAL):
        return preprocess
    return getattr(preprocess, "tokenizer", None)


def media_of(preprocess: Any, module: nn.Module) -> ImageRows | SoundRows | None:
    """Return what takes images or sound; None where `preprocess` takes others."""
    if _is(preprocess, _SEVERAL):
        parts = ("image_processor", "feature_extractor")
        found = (getattr(preprocess, name, None) for name in parts)
        preprocess = next((part for part in found if part is not None), None)
    if _is(preprocess, _IMAGES):
        prepare = partial(_process_images, preprocess, AcceptedInputs(module).names)
        return ImageRows(prepare, pads=bool(getattr(preprocess, "do_pad", False)))
    if _is(preprocess, _SOUND):
        return SoundRows(preprocess, module)
    return None


def _process_images(
    processor: Any, names: frozenset[str] | None, images: list[Any]
) -> dict[str, Any]:
    made = processor(images=images, return_tensors="pt")
    return {key: made[key] for key in made if names is None or key in names}


def _is(value: Any, base: str) -> bool:
    """Check for a base class of transformers by its name, without importing it."""
    return any(
        one.__name__ == base and one.__module__.partition(".")[0] == "transformers"
        for one in type(value).__mro__
    )
