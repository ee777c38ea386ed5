"""``"torchscript:PATH"`` and ``"export:PATH"``: models that are files of PyTorch.

Both hold a program as well as weights, and are for files whose author one trusts. Their
checksums, which torch does not look at, tell a damaged file.
"""

import zipfile
from pathlib import Path
from typing import Any

import torch

from sklearn_torch_bridge.models._hub_files import weights_only
from sklearn_torch_bridge.models._loaded_model import LoadedModel

__all__ = ["load_export", "load_torchscript"]


def load_torchscript(path: str) -> LoadedModel:
    """Load what `torch.jit.save` has written, onto the CPU."""
    file = _existing(path, "torchscript")
    try:
        _check_sums(file)
        load: Any = torch.jit.load  # untyped in torch
        return LoadedModel(load(file, map_location="cpu"))
    except Exception as error:  # of many kinds, for files of other kinds
        msg = (
            f"`model`='torchscript:{path}' must be a file that `torch.jit.save` has "
            f"written: {_first_line(error)}"
        )
        raise ValueError(msg) from error


def load_export(path: str) -> LoadedModel:
    """Load what `torch.export.save` has written."""
    file = _existing(path, "export")
    try:
        _check_sums(file)
        with weights_only():
            program = torch.export.load(file)
    except Exception as error:  # of many kinds, for files of other kinds
        msg = (
            f"`model`='export:{path}' must be a file that `torch.export.save` has "
            f"written: {_first_line(error)}"
        )
        raise ValueError(msg) from error
    return LoadedModel(program.module())


def _existing(path: str, prefix: str) -> str:
    if not Path(path).is_file():
        msg = f"`model`='{prefix}:{path}' must name a file, and there is none."
        raise ValueError(msg)
    return path


def _check_sums(path: str) -> None:
    """Raise where a part of an archive is not what was written: a wrong weight, say."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        msg = f"its part {damaged!r} is damaged"
        raise ValueError(msg)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
