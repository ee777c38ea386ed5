"""Compile the simulated device, once for each version of its sources and of torch."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

__all__ = ["build", "missing"]

TORCH_VERSION = "2.13"
"""PyTorch's device interfaces change with every minor version."""

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / "build" / HERE.name
SOURCES = sorted(HERE.glob("*.cpp"))
AUTOCAST = HERE / "autocast.cpp"
UNITS = [[AUTOCAST], [path for path in SOURCES if path != AUTOCAST]]
"""What is compiled together: PyTorch's headers take longer than all our code."""

TORCH = Path(torch.__file__).parent
COMPILE = [
    *("-c", "-fPIC", "-std=c++20", "-O1", f"-I{HERE}"),
    *("-isystem", str(TORCH / "include")),
    *("-isystem", str(TORCH / "include" / "torch" / "csrc" / "api" / "include")),
]
LINK = ["-shared", f"-L{TORCH / 'lib'}", "-lc10", "-ltorch_cpu", "-ltorch"]


def missing():
    """Name what keeps the device from being built here; an empty text if nothing."""
    if not sys.platform.startswith("linux"):
        return f"the simulated device needs Linux, this is {sys.platform}"
    if torch.__version__.split(".")[:2] != TORCH_VERSION.split("."):
        return f"it is written for torch {TORCH_VERSION}, this is {torch.__version__}"
    if not _compiler() and not _library().exists():
        return "it needs g++ to be built, and there is none on the path"
    return ""


def build():
    """Return the path of the compiled library, built where it is missing."""
    library = _library()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits and finds it built
        if not library.exists():
            _compile(library)
    return library


def _compiler():
    return shutil.which("g++")


def _library():
    inputs = [torch.__version__, *COMPILE[:4], *LINK[2:]]
    inputs += [path.read_text() for path in SOURCES + sorted(HERE.glob("*.h"))]
    digest = hashlib.sha256("\0".join(inputs).encode()).hexdigest()
    return CACHE / f"{digest[:16]}.so"


def _compile(library):
    with TemporaryDirectory(dir=CACHE) as folder, ThreadPoolExecutor() as pool:
        objects = [Path(folder, f"{number}.o") for number in range(len(UNITS))]
        list(pool.map(_compile_unit, UNITS, objects))
        unfinished = Path(folder, library.name)
        _run(*map(str, objects), *LINK, "-o", str(unfinished))
        unfinished.rename(library)  # whole or not at all


def _compile_unit(sources, target):
    text = "".join(f'#include "{path.name}"\n' for path in sources)
    _run(*COMPILE, "-x", "c++", "-", "-o", str(target), text=text)


def _run(*arguments, text=""):
    run = subprocess.run(
        [_compiler(), *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        msg = f"g++ could not build the simulated device:\n{run.stderr}"
        raise RuntimeError(msg)
