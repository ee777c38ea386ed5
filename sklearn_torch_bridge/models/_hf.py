"""``"hf:NAME_OR_PATH"``: a model of transformers without its head, and its processors.

What it takes is what its files say: texts, images or sound. Of an encoder and a decoder
the encoder is taken; a model with one tower for texts and another for images or sound
(CLIP, CLAP) gives the features that both share.
"""

import json
from pathlib import Path
from typing import Any

from torch import nn

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.models._hub_files import (
    cached_folder,
    files_in,
    silent_loading,
    weights_only,
)
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._processors import media_of

__all__ = ["hf_files", "hf_opens_files", "load_hf"]

_TOKENIZER_FILES = frozenset(
    {
        *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt"),
        *("vocab.json", "spiece.model", "sentencepiece.bpe.model"),
    }
)
_TOWERS = ("vision_config", "audio_config")


def load_hf(name: str) -> LoadedModel:
    """Load a model without its head, and what prepares its rows; no code of a hub."""
    transformers = import_optional("transformers", purpose=f"`model`='hf:{name}'")
    try:
        with silent_loading(), weights_only():
            module = transformers.AutoModel.from_pretrained(
                name, trust_remote_code=False
            )
            parts = _Parts(_folder(name))
            tokenizer = media = None
            if parts.texts:
                tokenizer = transformers.AutoTokenizer.from_pretrained(
                    name, trust_remote_code=False
                )
            if parts.media:
                auto = getattr(transformers, parts.media)
                media = auto.from_pretrained(name, trust_remote_code=False)
    except OSError as error:
        msg = (
            f"`model`='hf:{name}' must be a folder with a saved model, or the name of "
            "one on the Hugging Face hub that is cached or can be reached. "
            f"transformers says: {error}"
        )
        raise ValueError(msg) from error
    if parts.towers:
        _choose_tower_by_input(module)
    elif module.config.is_encoder_decoder:
        module = module.get_encoder()
    return LoadedModel(module, tokenizer, media=media and media_of(media, module))


def hf_files(name: str) -> list[Path]:
    """List the files that `load_hf` would read, without a network.

    Raises `FileNotFoundError` where the model is not here yet.
    """
    folder = _folder(name)
    files = files_in(folder)
    adapter = folder / "adapter_config.json"
    if adapter in files:
        base = json.loads(adapter.read_text("utf-8")).get("base_model_name_or_path")
        files += hf_files(base) if base and base != name else []
    return files


def hf_opens_files(name: str) -> bool:
    """Tell whether a str is a path for this model, and no text.

    Raises `FileNotFoundError` where the model is not here yet.
    """
    parts = _Parts(_folder(name))
    return parts.media is not None and not parts.texts


class _Parts:
    """What a folder says that its model takes."""

    def __init__(self, folder: Path) -> None:
        config = _read(folder / "config.json")
        self.media = _declared(folder)
        self.towers = "text_config" in config and any(key in config for key in _TOWERS)
        has_tokenizer = any((folder / one).is_file() for one in _TOKENIZER_FILES)
        # Models of sound come with the tokenizer of what they transcribe to.
        self.texts = has_tokenizer and (self.media is None or self.towers)


def _declared(folder: Path) -> str | None:
    """Name the class of transformers that prepares images, or sound."""
    config = _read(folder / "preprocessor_config.json")
    several = _read(folder / "processor_config.json")
    if "image_processor_type" in config or "image_processor" in several:
        return "AutoImageProcessor"
    if "sampling_rate" in config or "feature_extractor" in several:
        return "AutoFeatureExtractor"
    # Before transformers 4.26 image processors were feature extractors as well.
    return "AutoImageProcessor" if "feature_extractor_type" in config else None


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON file; one that is not there says nothing."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text("utf-8"))
    return found if isinstance(found, dict) else {}


def _folder(name: str) -> Path:
    return (
        Path(name)
        if Path(name).is_dir()
        else cached_folder(name, "config.json", prefix="hf")
    )


def _choose_tower_by_input(module: nn.Module) -> None:
    """Let a model of two towers run the one that its input is for."""
    cls = type(module)

    def forward(self: Any, **inputs: Any) -> Any:
        if "pixel_values" in inputs:
            found = self.get_image_features(**inputs)
        elif "input_features" in inputs:
            found = self.get_audio_features(**inputs)
        else:
            found = self.get_text_features(**inputs)
        return getattr(found, "pooler_output", found)  # a tensor before transformers 5

    module.__class__ = type(cls.__name__, (cls,), {"forward": forward})
