"""Processes of a test's own that are there at once: torch is imported once for all.

A server imports it and forks. A test that asks what an import does, or that needs
another hash seed, begins an interpreter instead.
"""

import functools
import multiprocessing
import os
import sys
import types
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

__all__ = ["Ended", "run_code", "warm_context"]

IMPORTED = ["torch", "torch._dynamo", "sklearn_torch_bridge"]  # the second at first use
SECONDS = 600


class Ended(NamedTuple):
    """What `subprocess.run` gives."""

    returncode: int
    stdout: str
    stderr: str


def run_code(code, *arguments, env=None, cwd=None, path="<string>", seconds=SECONDS):
    """Run a script in a new process, as Python does; return how it ended."""
    place = Path.cwd() if cwd is None else cwd
    given = [str(path), *map(str, arguments)]
    with TemporaryDirectory() as folder:
        process = warm_context().Process(
            target=_run, args=(code, given, dict(env or os.environ), place, folder)
        )
        process.start()
        process.join(seconds)
        process.kill()
        process.join()
        said = [Path(folder, name).read_text() for name in ("stdout", "stderr")]
        ended = Ended(process.exitcode, *said)
        process.close()
    return ended


@functools.cache
def warm_context():
    """Begin the server, which finds modules where this process does; its context."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context


def _run(code, arguments, env, place, folder):
    for number, name in enumerate(("stdout", "stderr"), start=1):
        file = os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(place)
    sys.argv = arguments
    main = types.ModuleType("__main__")
    main.__file__ = arguments[0]
    sys.modules["__main__"] = main
    exec(compile(code, arguments[0], "exec"), main.__dict__)  # noqa: S102 - a test's own
