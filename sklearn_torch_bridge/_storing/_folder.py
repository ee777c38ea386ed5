"""A folder that holds one saved extractor: its settings, and perhaps weights.

It is replaced in one step: new files are written beside the old ones, and what counts
is which settings are there. They tell the digest of their weights, so that these are
found whether or not they have got their final name yet.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from sklearn_torch_bridge._storing._safetensors import (
    digest_of_file,
    read_state,
    write_state,
)

__all__ = ["check_target", "read_config", "read_weights", "write_folder"]

State = Mapping[str, torch.Tensor]

FORMAT, FORMAT_VERSION = "sklearn_torch_bridge extractor", 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
NEXT_CONFIG, NEXT_WEIGHTS = f"{CONFIG}.next", f"{WEIGHTS}.next"
_TEMPORARY = re.compile(r"\.tmp[A-Za-z0-9]{6}")  # of safetensors 0.8 under way


def check_target(target: Path) -> None:
    """Refuse a file, and a folder with files of others."""
    if target.exists() and not target.is_dir():
        msg = f"`folder` must be a folder, and {str(target)!r} is a file."
        raise ValueError(msg)
    entries = {entry.name for entry in target.iterdir()} if target.exists() else set()
    others = {name for name in entries if not _is_left(name)}
    if others and _format_of(target) != FORMAT:
        msg = (
            f"`folder` must be new, empty, or hold an extractor saved before; "
            f"{str(target)!r} has {min(others)!r}."
        )
        raise ValueError(msg)


def write_folder(target: Path, content: Mapping[str, Any], state: State | None) -> None:
    """Put settings and weights into a folder that `check_target` has let pass.

    All of them, or nothing.
    """
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, **content}
    config["digest"] = _digest(config)
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink()
    _finish(target)
    try:
        _write_beside(target, config, state)
    except BaseException:
        with suppress(OSError):
            (target / NEXT_WEIGHTS).unlink(missing_ok=True)
            (target / NEXT_CONFIG).unlink(missing_ok=True)
            if is_new:
                target.rmdir()
        raise
    (target / NEXT_CONFIG).replace(target / CONFIG)  # from here on it is the new one
    _sync(target)
    _finish(target)


def read_config(target: Path) -> dict[str, Any]:
    """Read settings that nobody has changed since they were written."""
    path = target / CONFIG
    if not path.is_file():
        msg = f"`folder` must hold a saved extractor; {str(target)!r} has no {CONFIG}."
        raise ValueError(msg)
    if _format_of(target) != FORMAT:
        msg = f"{path} must hold the settings of an extractor, as saved."
        raise ValueError(msg)
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if config.get("format_version") != FORMAT_VERSION:
        msg = (
            f"{path} must be of format {FORMAT_VERSION}, got "
            f"{config.get('format_version')!r}, of {config.get('versions')}."
        )
        raise ValueError(msg)
    if not _has_its_digest(config) or not _is_whole(config):
        msg = (
            f"{path} must be as saved, and was changed. Load it as it was, change the "
            "extractor with set_params, and save that."
        )
        raise ValueError(msg)
    return config


def read_weights(target: Path, digest: str) -> State:
    """Read the weights that were stored with the settings of this digest."""
    return read_state(_file_of(target, digest))


def _format_of(target: Path) -> Any:
    """Give the format that the settings in a folder are in, if they tell."""
    with suppress(OSError, ValueError, RecursionError):
        config = json.loads((target / CONFIG).read_text(encoding="utf-8"))
        return config.get("format") if isinstance(config, dict) else None
    return None


def _write_beside(target: Path, config: Mapping[str, Any], state: State | None) -> None:
    """Write new files to the disk, under the names that nobody reads yet."""
    if state is not None:
        write_state(state, target / NEXT_WEIGHTS, config["weights"]["digest"])
        _sync(target / NEXT_WEIGHTS)
    text = json.dumps(config, indent=2) + "\n"
    (target / NEXT_CONFIG).write_text(text, encoding="utf-8")
    _sync(target / NEXT_CONFIG)
    _sync(target)


def _is_left(name: str) -> bool:
    """Tell a file that a killed `save` may leave in a folder without settings."""
    return name in (NEXT_CONFIG, NEXT_WEIGHTS) or bool(_TEMPORARY.fullmatch(name))


def _finish(target: Path) -> None:
    """Give the weights that belong to the settings their name; remove all others."""
    try:
        weights = read_config(target)["weights"]
    except ValueError:  # there are none, or they were changed: no weights are theirs
        return
    if not weights or not weights["stored"]:
        (target / WEIGHTS).unlink(missing_ok=True)
    elif _file_of(target, weights["digest"]) == target / NEXT_WEIGHTS:
        (target / NEXT_WEIGHTS).replace(target / WEIGHTS)
    (target / NEXT_WEIGHTS).unlink(missing_ok=True)
    _sync(target)


def _file_of(target: Path, digest: str) -> Path:
    """Find the file that says it holds these weights: the new one, if it is there."""
    for path in (target / WEIGHTS, target / NEXT_WEIGHTS):
        if digest_of_file(path) == digest:
            return path
    return target / WEIGHTS


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # it has no handle on a folder
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(config: Mapping[str, Any]) -> str:
    """Sum up settings in 64 hexadecimal digits."""
    content = {key: value for key, value in config.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


def _has_its_digest(config: Mapping[str, Any]) -> bool:
    with suppress(RecursionError):
        return bool(config.get("digest") == _digest(config))
    return False


def _is_whole(config: Mapping[str, Any]) -> bool:
    """Tell settings that have all that is read of them."""
    weights = config.get("weights")
    return (
        _has(config, dict, "versions", "parameters", "again", "learnt", "weights")
        and isinstance(weights, dict)
        and (
            not weights
            or (
                _has(weights, bool, "stored")
                and _has(weights, str, "digest")
                and _has(weights, dict, "tensors")
            )
        )
    )


def _has(content: Mapping[str, Any], kind: type, *names: str) -> bool:
    return all(isinstance(content.get(name), kind) for name in names)
