"""``"torchscript:PATH"`` and ``"export:PATH"``: models that are files of PyTorch.

Both contain a program besides weights: use only files whose author you trust. Their
checksums, which torch does not check, reveal a damaged file.
"""

import errno
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sklearn_torch_bridge.models._loaded_model import LoadedModel
from sklearn_torch_bridge.models._safe_loading import explained, weights_only

__all__ = ["load_export", "load_torchscript", "torch_files"]

_UNKNOWN_OPERATOR = "Unknown builtin op"


def load_torchscript(path: str) -> LoadedModel:
    """Load a file of `torch.jit.save`, onto the CPU."""
    load: Any = torch.jit.load  # untyped in torch
    on_cpu = partial(load, map_location="cpu")
    return LoadedModel(_load(path, on_cpu, prefix="torchscript", save="torch.jit.save"))


def load_export(path: str) -> LoadedModel:
    """Load a file of `torch.export.save`."""
    load = torch.export.load
    program = _load(path, load, prefix="export", save="torch.export.save")
    return LoadedModel(program.module())


def torch_files(path: str) -> list[Path]:
    """List the one file of a model; raise `FileNotFoundError` if it does not exist."""
    if not Path(path).is_file():
        raise FileNotFoundError(path)
    return [Path(path)]


def _load(path: str, load: Callable[[str], Any], *, prefix: str, save: str) -> Any:
    """Call `load` on a file whose checksums hold; explain what is wrong with others."""
    if not Path(path).is_file():
        msg = f"`model`='{prefix}:{path}' must name a file, and there is none."
        raise ValueError(msg)
    try:
        _check_sums(path)
        with weights_only():
            return load(path)
    except MemoryError:
        raise
    except Exception as error:  # of many types, for files of other formats
        raise _explained(path, error, prefix=prefix, save=save) from error


def _explained(path: str, error: Exception, *, prefix: str, save: str) -> Exception:
    """Return an error that says what is wrong: with reading, a program, or the file."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    model = f"{prefix}:{path}"
    # Of a damaged archive Python seeks what no file has.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return OSError(error.errno, f"`model`={model!r} cannot be read: {reason}")
    if _UNKNOWN_OPERATOR in str(error):
        hint = "Import the package that brings it first, or give a callable that does."
        msg = f"`model`={model!r} needs an operator that is not there: {reason} {hint}"
        return ValueError(msg)
    return explained(model, f"be a file that `{save}` has written", error)


def _check_sums(path: str) -> None:
    """Check that no part of an archive has changed, such as a weight."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        msg = f"its part {damaged!r} is damaged"
        raise ValueError(msg)
