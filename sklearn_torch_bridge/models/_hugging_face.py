"""``"hf:NAME_OR_PATH"``: a model of transformers without its head, and its processors.

Its files determine what it takes: texts, images or sound. Of an encoder and a decoder
only the encoder is used. A model with one tower for texts and another for images or
sound (CLIP, CLAP) returns the features that both share.
"""

import inspect
from itertools import chain
from pathlib import Path
from typing import Any

from torch import nn

from sklearn_torch_bridge._packages import import_optional
from sklearn_torch_bridge.models._hub_files import (
    files_in,
    find_folder,
    loading_from_hub,
    read_json,
    with_bases,
)
from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._missing_weights import loading_report
from sklearn_torch_bridge.models._processors import media_of

__all__ = ["hf_files", "hf_opens_files", "load_hf"]

_TOKENIZER_FILES = frozenset(
    {
        *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt"),
        *("vocab.json", "spiece.model", "sentencepiece.bpe.model"),
    }
)
_WITHOUT_HEAD = ("Model", "ModelWithProjection")
_TOWERS = ("vision_config", "audio_config")
_KINDS = {"pixel_values": "image", "input_features": "audio"}


def _folder(name: str) -> Path:
    """Return the folder of a model, or of an adapter."""
    return find_folder(name, "config.json", "adapter_config.json", prefix="hf")


def load_hf(name: str) -> LoadedModel:
    """Load a model without its head, and what prepares its rows; no code of the hub."""
    model = f"hf:{name}"
    transformers = import_optional("transformers", purpose=f"`model`={model!r}")
    safe = {"trust_remote_code": False}
    told = {"library": "transformers", "by_hand": "AutoModel.from_pretrained"}
    with loading_from_hub(model, **told), loading_report(model) as report:
        cls = _class_of(name, transformers)
        module = cls.from_pretrained(name, **safe)
        takes = _Takes(name)
        tokenizer = media = None
        if takes.texts:
            source = takes.tokenizer_of
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **safe)
        if takes.media:
            auto = getattr(transformers, takes.media)
            media = auto.from_pretrained(takes.media_of, **safe)
    if takes.towers:
        _choose_tower_by_input(module)
    else:
        module = _encoder_of(module)
    of_media = media and media_of(media, module)
    missing = report.finish(module)
    return LoadedModel(module, tokenizer, media=of_media, missing=missing)


def _class_of(name: str, transformers: Any) -> Any:
    """Return what loads a model: the class of an encoder if one alone was saved.

    And of a part for which `AutoModel` knows no class, such as one tower of two.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError):  # an adapter has none; of others AutoModel says why
        return transformers.AutoModel
    saved_by = next(iter(config.architectures or ()), "")
    is_known = type(config) in transformers.MODEL_MAPPING
    is_alone = saved_by.endswith("EncoderModel") or (
        not is_known and saved_by.endswith(_WITHOUT_HEAD)
    )
    return getattr(transformers, saved_by * is_alone, transformers.AutoModel)


def _encoder_of(module: Any) -> Any:
    """Return the encoder of a model that has one for what the whole model takes.

    That of a BERT takes what its embeddings return, and is no model by itself.
    """
    encoder = module.get_encoder()
    given = [*inspect.signature(encoder.forward).parameters.values()]
    required = {one.name for one in given if one.default is one.empty}
    takes = module.main_input_name
    is_alone = given[:1] and given[0].name == takes and required <= {takes, "kwargs"}
    return encoder if is_alone else module


def hf_files(name: str) -> list[Path]:
    """List the files that `load_hf` would read, without a network."""
    return [*chain(*with_bases(_folder(name), files_in, prefix="hf").values())]


def hf_opens_files(name: str) -> bool:
    """Return whether a str is a path for this model, and not a text."""
    takes = _Takes(name)
    return takes.media is not None and not takes.texts


class _Takes:
    """What a model takes: `texts`, `media` by a class, or by `towers`.

    What the folder of an adapter lacks is that of the model that it is for.
    """

    def __init__(self, name: str) -> None:
        folders = [*with_bases(_folder(name), files_in, prefix="hf")]
        sources = [name, *map(str, folders[1:])]
        config = next(filter(None, map(_config, folders)), {})
        media = dict(zip(sources, map(_media_class, folders), strict=True))
        self.media_of = next(filter(media.get, sources), name)
        self.media = media[self.media_of]
        self.towers = "text_config" in config and any(key in config for key in _TOWERS)
        tokenizers = dict(zip(sources, map(_has_tokenizer, folders), strict=True))
        self.tokenizer_of = next(filter(tokenizers.get, sources), name)
        # Models of sound have a tokenizer for their transcriptions.
        alone = self.media is None or self.towers
        self.texts = alone and tokenizers[self.tokenizer_of]


def _config(folder: Path) -> dict[str, Any]:
    return read_json(folder / "config.json")


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / one).is_file() for one in _TOKENIZER_FILES)


def _media_class(folder: Path) -> str | None:
    """Return the name of the class of transformers that prepares images, or sound."""
    config = read_json(folder / "preprocessor_config.json")
    several = read_json(folder / "processor_config.json")
    if "image_processor_type" in config or "image_processor" in several:
        return "AutoImageProcessor"
    if "sampling_rate" in config or "feature_extractor" in several:
        return "AutoFeatureExtractor"
    # Before transformers 4.26 image processors were feature extractors as well.
    return "AutoImageProcessor" if "feature_extractor_type" in config else None


def _choose_tower_by_input(module: nn.Module) -> None:
    """Make a model of two towers run the one that its input is for."""
    cls = type(module)

    def forward(self: Any, **inputs: Any) -> Any:
        kinds = [kind for name, kind in _KINDS.items() if name in inputs] or ["text"]
        found = getattr(self, f"get_{kinds[0]}_features")(**inputs)
        return getattr(found, "pooler_output", found)  # a tensor before transformers 5

    module.__class__ = type(cls.__name__, (cls,), {"forward": forward})
