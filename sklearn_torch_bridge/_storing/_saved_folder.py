"""A folder that holds one saved extractor: its settings, and perhaps weights.

A new one takes its place in one step: its files are written beside the old ones, then
the new settings are renamed to the final name. Settings hold the digest of their
weights, which are found by it also where a kill came before they were renamed.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sklearn_torch_bridge._storing._safetensors import (
    State,
    digest_of_file,
    read_state,
    write_state,
)
from sklearn_torch_bridge._tensor_bytes import new_hash

__all__ = ["check_target", "read_config", "read_weights", "write_folder"]

FORMAT, FORMAT_VERSION = "sklearn_torch_bridge extractor", 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
NEXT_CONFIG, NEXT_WEIGHTS = f"{CONFIG}.next", f"{WEIGHTS}.next"
_TEMPORARY = re.compile(r"\.tmp[A-Za-z0-9]{6}")  # of safetensors 0.8 under way


def check_target(target: Path) -> None:
    """Refuse a file, and a folder that others have files in."""
    if target.exists() and not target.is_dir():
        msg = f"`folder` must be a folder, and {str(target)!r} is a file."
        raise ValueError(msg)
    entries = {entry.name for entry in target.iterdir()} if target.exists() else set()
    # What a killed `save` may leave in a folder without settings is no hindrance.
    left_over = {NEXT_CONFIG, NEXT_WEIGHTS, *filter(_TEMPORARY.fullmatch, entries)}
    others = entries - left_over
    if others and _config_of(target) is None:
        msg = (
            f"`folder` must be new, empty, or hold an extractor saved before; "
            f"{str(target)!r} has {min(others)!r}."
        )
        raise ValueError(msg)


def write_folder(target: Path, content: Mapping[str, Any], state: State | None) -> None:
    """Write settings and weights, or nothing, where `check_target` allows it."""
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, **content}
    config["digest"] = _digest(config)
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink()
    _finish(target)
    try:
        if state is not None:
            write_state(state, target / NEXT_WEIGHTS, config["weights"]["digest"])
            _sync(target / NEXT_WEIGHTS)
        text = json.dumps(config, indent=2) + "\n"
        (target / NEXT_CONFIG).write_text(text, encoding="utf-8")
        _sync(target / NEXT_CONFIG)
        _sync(target)
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
    """Read settings, and refuse them if they were changed since."""
    path = target / CONFIG
    if not path.is_file():
        msg = f"`folder` must hold a saved extractor; {str(target)!r} has no {CONFIG}."
        raise ValueError(msg)
    config = _config_of(target)
    if config is None:
        msg = f"{path} must hold the settings of an extractor, as saved."
        raise ValueError(msg)
    if config.get("format_version") != FORMAT_VERSION:
        msg = (
            f"{path} must be of format {FORMAT_VERSION}, got "
            f"{config.get('format_version')!r}, of {config.get('versions')}."
        )
        raise ValueError(msg)
    if not _is_as_saved(config):
        msg = (
            f"{path} must be as saved, and was changed. Load it as it was, change the "
            "extractor with set_params, and save that."
        )
        raise ValueError(msg)
    return config


def read_weights(target: Path, digest: str) -> State:
    """Read the weights that were stored with the settings of this digest."""
    return read_state(_file_of(target, digest))


def _config_of(target: Path) -> dict[str, Any] | None:
    """Return the settings in a folder; None if there are none of an extractor."""
    with suppress(OSError, ValueError, RecursionError):
        config = json.loads((target / CONFIG).read_text(encoding="utf-8"))
        if isinstance(config, dict) and config.get("format") == FORMAT:
            return config
    return None


def _finish(target: Path) -> None:
    """Rename the weights that belong to the settings; remove all others."""
    try:
        weights = read_config(target)["weights"]
    except ValueError:  # there are no settings, or they were changed
        return
    if not weights or not weights["stored"]:
        (target / WEIGHTS).unlink(missing_ok=True)
    elif _file_of(target, weights["digest"]) == target / NEXT_WEIGHTS:
        (target / NEXT_WEIGHTS).replace(target / WEIGHTS)
    (target / NEXT_WEIGHTS).unlink(missing_ok=True)
    _sync(target)


def _file_of(target: Path, digest: str) -> Path:
    """Find the file with these weights, which may still have its temporary name."""
    for path in (target / WEIGHTS, target / NEXT_WEIGHTS):
        if digest_of_file(path) == digest:
            return path
    return target / WEIGHTS


def _sync(path: Path) -> None:
    """Write a file, or the names in a folder, through to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no handle on a folder
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(config: Mapping[str, Any]) -> str:
    """Compute a digest of settings, in 64 hexadecimals."""
    content = {key: value for key, value in config.items() if key != "digest"}
    return new_hash(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _is_as_saved(config: Mapping[str, Any]) -> bool:
    """Check that settings have their digest, and all that is read of them."""
    names = ("versions", "parameters", "again", "learnt", "weights")
    if not all(isinstance(config.get(name), dict) for name in names):
        return False
    kinds = {"stored": bool, "digest": str, "tensors": dict}
    weights = config["weights"]
    if weights and not all(isinstance(weights.get(k), kinds[k]) for k in kinds):
        return False
    with suppress(RecursionError):
        return bool(config.get("digest") == _digest(config))
    return False
